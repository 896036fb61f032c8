package snapshot

import (
	"context"
	"iter"
	"time"
)

// Position is a place in the history of a catalog.
type Position struct {
	Revision int64
	History  string // which one the revision is of, as the catalog has it; a catalog that was restored has another. May be empty
}

// Changes are the changes of records that one revision of the catalog made.
type Changes struct {
	Position
	Records []Change // none when nothing has happened up to this revision
}

// Change is what became of one record.
type Change struct {
	Before *Record // nil when there was none
	After  *Record // nil when there is none any more
}

// Moment is what happened in one revision of the catalog, or that nothing has up to it.
type Moment struct {
	Position
	Events []Event
}

// Follow yields what the catalog says has happened after a position, on whatever replica and in order; after none from now on.
// The first moment comes as soon as nothing is missed any more. While the catalog does not answer, it waits. It ends with an
// error: an [Error] with ReasonWatchExpired when what happened after the revision cannot be told any more.
func (c *Cluster) Follow(ctx context.Context, after Position) iter.Seq2[Moment, error] {
	return func(yield func(Moment, error) bool) {
		for changes, err := range c.cfg.Catalog.Changes(ctx, after) {
			m := Moment{Position: changes.Position}
			for _, ch := range changes.Records {
				m.Events = append(m.Events, c.eventsOf(ch)...)
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// eventsOf returns what a change of a record says has happened, in order.
func (c *Cluster) eventsOf(ch Change) (events []Event) {
	add := func(t EventType, rec *Record, at time.Time, backend string) {
		ev := Event{Type: t, Time: at, Cluster: c.cfg.Name, Name: rec.Name, Backend: backend, Snapshot: &rec.Snapshot}
		if t != EventDeleted { // which is not the save's doing
			ev.RequestID = rec.RequestID
		}
		events = append(events, ev)
	}
	if ch.Before == nil && ch.After.State == StateSaving {
		add(EventStarted, ch.After, ch.After.CreateTime, "")
	}
	if ch.After != nil {
		for _, l := range ch.After.Locations {
			if settled(l.State) && stateOn(ch.Before, l.Backend) != l.State {
				add(EventLocationDone, ch.After, l.UpdateTime, l.Backend)
			}
		}
	}
	if ch.Before != nil {
		for _, l := range ch.Before.Locations {
			if l.Size == 0 || ch.After != nil && ch.After.Location(l.Backend) != nil {
				continue
			}
			at := l.UpdateTime // when its removal began
			if l.State != StateDeleting {
				at = c.cfg.Now()
			}
			add(EventDeleted, ch.Before, at, l.Backend)
		}
	}
	if saveEnded(ch) {
		add(EventFinished, ch.After, ch.After.CreateTime.Add(ch.After.Duration), "")
	}
	return events
}

// saveEnded reports whether a save has ended, or its snapshot was found: one of another program was not saved.
func saveEnded(ch Change) bool {
	return ch.After != nil && ch.After.Trigger != TriggerAdopted && (settled(ch.After.State) || ch.After.State == StatePartial) &&
		(ch.Before == nil || ch.Before.State == StateSaving)
}

// settled reports whether a location holds the snapshot or has failed.
func settled(s State) bool { return s == StateReady || s == StateFailed }

// stateOn returns the state of a location before; StateUnspecified when there was none.
func stateOn(rec *Record, backend string) State {
	if rec == nil {
		return StateUnspecified
	}
	if l := rec.Location(backend); l != nil {
		return l.State
	}
	return StateUnspecified
}
