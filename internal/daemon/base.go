package daemon

import (
	"context"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/snapshot"
)

// awaitTime waits until a time is not in the future, within the tolerance of clocks: a timeline is named later than one
// that a wrong clock has named, and a snapshot before the time in its name does not count as its base.
func awaitTime(ctx context.Context, t time.Time) error {
	ahead := time.Until(t)
	if ahead <= 0 {
		return nil
	}
	return backoff.Wait(ctx, min(ahead, snapshot.ClockTolerance))
}
