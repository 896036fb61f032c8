package snapshot

import (
	"context"
	"sync"
	"time"
)

// EventType says what happened.
type EventType int

// The types of event.
const (
	EventStarted      EventType = iota + 1 // a save has begun
	EventProgress                          // bytes have moved
	EventLocationDone                      // one backend holds the snapshot or has failed
	EventFinished                          // a save has ended
	EventDeleted                           // a backend does not hold the snapshot any more: it was deleted or pruned
)

// Event is something that happened to a snapshot on this replica.
type Event struct {
	Type      EventType
	Time      time.Time
	Cluster   string
	Name      string
	RequestID string
	Snapshot  *Snapshot // a copy; nil in EventProgress
	Backend   string    // of EventLocationDone and EventDeleted; in EventProgress the backend that is written, empty for the read from etcd
	Done      int64     // bytes so far
	Total     int64     // bytes expected; 0 when not known
}

// eventBuffer is how many events a subscriber may be behind. Progress is dropped when half of it is full, so that there
// is room for what must not be lost.
const eventBuffer = 256

// Events hands what happens on this replica to those who watch. The zero value is ready for use.
type Events struct {
	mu   sync.Mutex
	subs map[*subscription]struct{}
}

type subscription struct {
	ch      chan Event
	cancel  context.CancelCauseFunc
	matches func(Event) bool
}

// Subscribe returns the events from now on for which matches is true (nil: all) until ctx is done. The returned context
// is done when the subscription has ended: its cause is an [Error] with ReasonSlowConsumer when the subscriber did not
// keep up.
func (e *Events) Subscribe(ctx context.Context, matches func(Event) bool) (<-chan Event, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &subscription{ch: make(chan Event, eventBuffer), cancel: cancel, matches: matches}
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

// Publish hands an event to all subscribers. It never blocks.
func (e *Events) Publish(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.subs {
		if s.matches != nil && !s.matches(ev) {
			continue
		}
		if ev.Type == EventProgress && len(s.ch) >= eventBuffer/2 {
			continue
		}
		select {
		case s.ch <- ev:
		default:
			delete(e.subs, s)
			s.cancel(&Error{Reason: ReasonSlowConsumer, Message: "watch: the watcher did not keep up with the events", Hint: "watch again"})
		}
	}
}
