// Package backoff spaces out attempts.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Delay returns the pause after so many failed attempts: first, doubled with each further one, up to limit.
func Delay(first, limit time.Duration, attempts int) time.Duration {
	d := first
	for ; attempts > 1 && d < limit; attempts-- {
		d *= 2
	}
	return min(d, limit)
}

// Spread returns d, longer or shorter by at most a share of it (0.1: a tenth), so that what failed or began at the same
// time does not happen at the same time again.
func Spread(d time.Duration, share float64) time.Duration {
	return d + time.Duration((2*rand.Float64()-1)*share*float64(d)) //nolint:gosec // it spreads load and keeps no secret
}

// Wait returns nil after d, or the cause of ctx when ctx has ended by then.
func Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
	return context.Cause(ctx)
}
