package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/snapshot"
)

// baseLabel is the label of snapshots that were taken because the journal needs one.
const baseLabel = "journal"

// saveBase takes a snapshot from which the journal can be replayed, unless there is one, when it is its turn. The rules
// of retention apply to it as to those of schedules. One that some backends lack is enough: repair brings it there, and
// the error names them until it has.
func saveBase(ctx context.Context, c *managed, need journal.Base) error {
	there, err := c.base(ctx, need)
	if err != nil {
		return err
	}
	if there != nil {
		return lacking(&there.Snapshot, c.BackendNames())
	}
	// Before that time the snapshot would not count, and another one would be taken for nothing.
	if err := awaitTime(ctx, need.Since); err != nil {
		return err
	}
	// As those of schedules, so that it waits in their queue, and retention knows it.
	res, err := c.Save(ctx, cluster.SaveRequest{
		NamePrefix: config.ScheduledPrefix,
		Labels:     map[string]string{baseLabel: "base"},
		Trigger:    snapshot.TriggerScheduled,
	})
	if err != nil && res.Snapshot != nil && res.Snapshot.State() == snapshot.StatePartial {
		return lacking(res.Snapshot, c.BackendNames())
	}
	return err
}

// base returns a snapshot that serves as a base: a READY one if there is one, or a PARTIAL one, or nil. It was to go to
// all backends: no repair brings that of a schedule with backends of its own to the others.
func (c *managed) base(ctx context.Context, need journal.Base) (partial *snapshot.Record, err error) {
	query := snapshot.Query{
		States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial},
		From:   need.Since, Until: time.Now().Add(snapshot.ClockTolerance), PageSize: 100,
	}
	for {
		page, err := c.List(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, rec := range page.Records {
			lacks := func(name string) bool { return rec.Location(name) == nil }
			switch {
			case slices.ContainsFunc(c.BackendNames(), lacks) || !need.Serves(&rec.Snapshot):
			case rec.State() == snapshot.StateReady:
				return rec, nil
			case partial == nil:
				partial = rec
			}
		}
		if query.PageToken = page.NextPageToken; query.PageToken == "" {
			return partial, nil
		}
	}
}

// lacking is the error that some backends of this replica lack a snapshot; nil when none does.
func lacking(r *snapshot.Snapshot, backends []string) error {
	names := slices.DeleteFunc(slices.Clone(backends), func(name string) bool {
		l := r.Location(name)
		return l != nil && l.State == snapshot.StateReady
	})
	if len(names) == 0 {
		return nil
	}
	return &journal.PartialBase{Lacking: names}
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
