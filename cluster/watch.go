package cluster

import (
	"context"
	"iter"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Follow yields the events that the catalog records after a position, on any replica and in order; after none those from
// now on. The first moment comes as soon as no event can be missed any more. While the catalog does not answer, it waits.
// It ends with an error: a [snapshot.Error] with ReasonWatchExpired when the events after the revision are not known any
// more.
func (c *Cluster) Follow(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
	return func(yield func(snapshot.Moment, error) bool) {
		for changes, err := range c.cfg.History.Changes(ctx, after) {
			m := snapshot.Moment{Position: changes.Position}
			for _, ch := range changes.Records {
				m.Events = append(m.Events, c.eventsOf(ch)...)
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// eventsOf returns the events that a change of a record shows, in order.
func (c *Cluster) eventsOf(ch snapshot.Change) (events []snapshot.Event) {
	add := func(t snapshot.EventType, rec *snapshot.Record, at time.Time, backend string) {
		ev := snapshot.Event{Type: t, Time: at, Cluster: c.cfg.Name, Name: rec.Name, Backend: backend, Snapshot: &rec.Snapshot}
		if t != snapshot.EventDeleted { // a deletion is not part of the save
			ev.RequestID = rec.RequestID
		}
		events = append(events, ev)
	}
	if ch.Before == nil && ch.After.State() == snapshot.StateSaving {
		add(snapshot.EventStarted, ch.After, ch.After.CreateTime, "")
	}
	if ch.After != nil {
		for _, l := range ch.After.Locations() {
			if concluded(l.State) && stateOn(ch.Before, l.Backend) != l.State {
				add(snapshot.EventLocationDone, ch.After, l.UpdateTime, l.Backend)
			}
		}
	}
	if ch.Before != nil {
		for _, l := range ch.Before.Locations() {
			if l.Size == 0 || ch.After != nil && ch.After.Location(l.Backend) != nil {
				continue
			}
			at := l.UpdateTime // when its removal began
			if l.State != snapshot.StateDeleting {
				at = c.cfg.Now()
			}
			add(snapshot.EventDeleted, ch.Before, at, l.Backend)
		}
	}
	if saveEnded(ch) {
		add(snapshot.EventFinished, ch.After, ch.After.CreateTime.Add(ch.After.Duration), "")
	}
	return events
}

// saveEnded reports whether a save has ended, or its snapshot was found. A snapshot of another program was not saved.
func saveEnded(ch snapshot.Change) bool {
	return ch.After != nil && ch.After.Trigger != snapshot.TriggerAdopted &&
		(concluded(ch.After.State()) || ch.After.State() == snapshot.StatePartial) &&
		(ch.Before == nil || ch.Before.State() == snapshot.StateSaving)
}

// concluded reports whether a location holds the snapshot or has failed.
func concluded(s snapshot.State) bool { return s == snapshot.StateReady || s == snapshot.StateFailed }

// stateOn returns the state of a location before; StateUnspecified when there was none.
func stateOn(rec *snapshot.Record, backend string) snapshot.State {
	if rec == nil {
		return snapshot.StateUnspecified
	}
	if l := rec.Location(backend); l != nil {
		return l.State
	}
	return snapshot.StateUnspecified
}
