package cluster

import (
	"context"
	"iter"
	"sync"
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

// eventBuffer is how many events a subscriber may be behind. Progress is dropped when half of it is full, so that there
// is room for events that must not be lost.
const eventBuffer = 256

// Events hands the events of saves and deletions on this replica to watchers. It is an observer. The zero value is ready
// for use.
type Events struct {
	mu   sync.Mutex
	subs map[*subscription]struct{}
}

var _ snapshot.Observer = (*Events)(nil)

type subscription struct {
	ch      chan snapshot.Event
	cancel  context.CancelCauseFunc
	matches func(snapshot.Event) bool
}

// Subscribe returns the events from now on for which matches is true (nil: all) until ctx is done. The returned context
// is done when the subscription has ended: its cause is a [snapshot.Error] with ReasonSlowConsumer when the subscriber did
// not keep up.
func (e *Events) Subscribe(ctx context.Context, matches func(snapshot.Event) bool) (<-chan snapshot.Event, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &subscription{ch: make(chan snapshot.Event, eventBuffer), cancel: cancel, matches: matches}
	e.mu.Lock()
	if e.subs == nil {
		e.subs = make(map[*subscription]struct{})
	}
	e.subs[s] = struct{}{}
	e.mu.Unlock()
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		delete(e.subs, s)
		e.mu.Unlock()
	})
	return s.ch, ctx
}

// Observe hands an event to all subscribers. It never blocks.
func (e *Events) Observe(_ context.Context, ev snapshot.Event) {
	if ev.Type > snapshot.EventDeleted {
		return // it is for metrics
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.subs {
		if s.matches != nil && !s.matches(ev) {
			continue
		}
		if ev.Type == snapshot.EventProgress && len(s.ch) >= eventBuffer/2 {
			continue
		}
		select {
		case s.ch <- ev:
		default:
			delete(e.subs, s)
			s.cancel(snapshot.ReasonSlowConsumer.New("watch: the watcher did not keep up with the events").Advise("watch again"))
		}
	}
}
