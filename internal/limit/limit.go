// Package limit slows down what moves bytes, at a rate that can be changed while it is in use.
package limit

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Min is the lowest rate, in bytes per second. Below it, a save would take hours, and a change of the rate be felt late.
const Min = 64 << 10

// slice is how many bytes may pass at once, and how many are waited for at a time.
const slice = Min

// Limit is a rate that several goroutines share, in the order in which they come.
type Limit struct{ limiter *rate.Limiter }

// New returns a limit; see Set.
func New(bytesPerSecond int64) *Limit {
	l := &Limit{limiter: rate.NewLimiter(rate.Inf, slice)}
	l.Set(bytesPerSecond)
	return l
}

// Set changes the rate, to none when it is 0. Who waits already goes on waiting, for a second at most if nobody else does.
func (l *Limit) Set(bytesPerSecond int64) {
	r := rate.Inf
	if bytesPerSecond > 0 {
		r = rate.Limit(max(bytesPerSecond, Min))
	}
	l.limiter.SetLimit(r)
}

// Wait returns when as many bytes may pass, or with the cause of ctx when it ends before.
func (l *Limit) Wait(ctx context.Context, bytes int) error {
	for ; bytes > 0; bytes -= slice {
		r := l.limiter.ReserveN(time.Now(), min(bytes, slice))
		if err := sleep(ctx, r.Delay()); err != nil {
			r.Cancel()
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
