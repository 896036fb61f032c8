package server

import (
	"context"
	"sync"

	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// eventBuffer is how many events a subscriber may be behind. Progress is dropped when half of it is full, so that there
// is room for events that must not be lost.
const eventBuffer = 256

// Events hands the events of saves and deletions on this replica to watchers, and knows how far the saves are that run.
// It is an observer. The zero value is ready for use.
type Events struct {
	saves status.Saves

	mu   sync.Mutex
	subs map[*subscription]struct{}
}

var _ snapshot.Observer = (*Events)(nil)

type subscription struct {
	ch      chan *snapshot.Event // shared with the others: a channel of events themselves would take 70 KiB
	cancel  context.CancelCauseFunc
	matches func(snapshot.Event) bool
}

// Moving returns how far the save of a cluster is; nil when this replica does not save it.
func (e *Events) Moving(cluster string) *status.Moving { return e.saves.Of(cluster) }

// Subscribe returns the events from now on for which matches is true (nil: all) until ctx is done. Those of a save that
// runs already come first: that it has started, with its snapshot as it is now and how much of etcd was read, and how
// far each of its transfers is. The returned context is done when the subscription has ended: its cause is a
// [snapshot.Error] with ReasonSlowConsumer when the subscriber did not keep up.
func (e *Events) Subscribe(
	ctx context.Context, matches func(snapshot.Event) bool,
) (<-chan *snapshot.Event, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	s := &subscription{ch: make(chan *snapshot.Event, eventBuffer), cancel: cancel, matches: matches}
	e.mu.Lock()
	if e.subs == nil {
		e.subs = make(map[*subscription]struct{})
	}
	e.subs[s] = struct{}{}
	for _, ev := range e.saves.Events() {
		e.hand(s, &ev)
	}
	e.mu.Unlock()
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		delete(e.subs, s)
		e.mu.Unlock()
	})
	return s.ch, ctx
}

// Observe hands an event to all subscribers. It never blocks.
func (e *Events) Observe(ctx context.Context, ev snapshot.Event) {
	if ev.Type > snapshot.EventDeleted { // of no interest to watchers
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.saves.Observe(ctx, ev)
	for s := range e.subs {
		e.hand(s, &ev)
	}
}

// hand gives an event to a subscriber that wants it, or ends the subscription. e.mu is held.
func (e *Events) hand(s *subscription, ev *snapshot.Event) {
	if s.matches != nil && !s.matches(*ev) || ev.Type == snapshot.EventProgress && len(s.ch) >= eventBuffer/2 {
		return
	}
	select {
	case s.ch <- ev:
	default:
		delete(e.subs, s)
		s.cancel(snapshot.ReasonSlowConsumer.New("watch: the watcher did not keep up with the events").Advise("watch again"))
	}
}
