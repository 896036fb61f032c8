package s3

import (
	"context"
	"time"
)

// longestPause bounds the pauses between two requests that are the same. It is more than any of them; tests, in which
// every server is quick to recover, shorten it.
var longestPause = time.Hour

// pause waits, and returns the cause of ctx when it ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(min(d, longestPause))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
