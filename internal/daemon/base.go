package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/snapshot"
)

// serves reports whether the newest snapshot, if there is one, is the base that the journal needs. Its time alone does
// not show that: the clock of another replica may have made it.
func serves(last *snapshot.Snapshot, need journal.Base) bool {
	return !need.Fresh && !last.CreateTime.Before(need.Since) && last.Revision >= need.Revision-1 &&
		last.EtcdClusterID == fmt.Sprintf("%016x", need.Cluster)
}

// awaitTime waits until a time is not in the future, within the tolerance of clocks: a timeline is named later than one
// that a wrong clock has named, and a snapshot before the time in its name does not count as its base.
func awaitTime(ctx context.Context, t time.Time) error {
	ahead := time.Until(t)
	if ahead <= 0 {
		return nil
	}
	return backoff.Wait(ctx, min(ahead, snapshot.ClockTolerance))
}
