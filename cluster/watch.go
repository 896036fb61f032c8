package cluster

import (
	"context"
	"iter"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Follow yields the events that the catalog records after a position, on any replica and in order; after none those
// from now on, and first that a save has started which runs already. The first moment comes as soon as no event can
// be missed any more. While the catalog does not answer, it waits. It ends with an error: a [snapshot.Error] with
// ReasonWatchExpired when the events after the revision are not known any more.
func (c *Cluster) Follow(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
	return func(yield func(snapshot.Moment, error) bool) {
		running := "" // the snapshot of the save that ran at the beginning
		first := after.Revision == 0
		for changes, err := range c.cfg.History.Changes(ctx, after) {
			m := snapshot.Moment{Position: changes.Position}
			if first && err == nil {
				first = false
				if rec := c.savingNow(ctx); rec != nil {
					running = rec.Name
					m.Events = snapshot.Change{After: rec}.Events(c.cfg.Name, c.cfg.Now())
				}
			}
			for _, ch := range changes.Records {
				// The record of a save that began just now may be read before the change that has made it.
				if ch.After == nil || ch.After.Name != running || ch.Before != nil {
					m.Events = append(m.Events, ch.Events(c.cfg.Name, c.cfg.Now())...)
				}
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// savingNow returns the record of the save that runs, on whichever replica; nil when none does, or when it is not
// known.
func (c *Cluster) savingNow(ctx context.Context) *snapshot.Record {
	owner, err := c.cfg.Saves.LockOwner(ctx)
	if err != nil || owner == "" {
		return nil // most watches begin while nothing is saved, and the records need not be searched
	}
	page, err := c.cfg.History.List(ctx, snapshot.Query{States: []snapshot.State{snapshot.StateSaving}, PageSize: 1})
	if err != nil || len(page.Records) == 0 || page.Records[0].Owner() != owner {
		return nil
	}
	return page.Records[0]
}
