package cluster

import (
	"context"
	"errors"

	"github.com/snapshotd/snapshotd/cluster/amend"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Disown takes their requests from the snapshots of a schedule whose request ids are stray, so that these are new when
// they come. A clock that was ahead has saved for runs that are still to come, and nothing in the records tells these
// snapshots from those of the runs.
func (c *Cluster) Disown(ctx context.Context, schedule string, stray func(requestID string) bool) error {
	var bad snapshot.BadRecords
	for rec, err := range c.cfg.Records.Scan(ctx) {
		if bad.Add(err) {
			continue // it answers no request
		}
		if err != nil {
			return err
		}
		if rec.Schedule != schedule || !stray(rec.RequestID) {
			continue
		}
		id, freed := rec.RequestID, false
		_, err = amend.Record(ctx, c.cfg.Records, rec, func(next *snapshot.Record, _ bool) error {
			if next.RequestID != id {
				return amend.ErrUnchanged
			}
			next.RequestID, freed = "", true
			return nil
		})
		if err != nil && !errors.Is(err, snapshot.ErrNotFound) {
			return err
		}
		if err == nil && freed {
			c.log.WarnContext(ctx, "snapshot was taken while a clock was ahead; it is the outcome of no run that is to come",
				"snapshot", rec.Name, "request", id)
		}
	}
	return nil
}
