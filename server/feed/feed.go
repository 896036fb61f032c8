package feed

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// kept is how many moments are remembered: for watchers that are slow, and for those that come back, which most do at
	// once when a connection to many of them breaks.
	kept = 256
	// catchUps is how many watchers read a past that is not remembered, each with a watch of the catalog of its own.
	catchUps = 8
)

// Source yields events after a position, or from now on, until it yields an error. The first moment comes as soon as no
// event can be missed any more.
type Source func(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error]

// Feed follows a source while anybody watches.
type Feed struct {
	source Source
	places chan struct{} // one for each watcher that catches up

	mu   sync.Mutex
	live *live // nil while nobody watches
}

// New returns a feed of a source. It starts nothing.
func New(source Source) *Feed { return &Feed{source: source, places: make(chan struct{}, catchUps)} }

// live is one following of the source, which all watchers share. All of it is guarded by the feed's mutex.
type live struct {
	from     snapshot.Position // where it began: where its first watcher was
	cancel   context.CancelFunc
	over     chan struct{} // closed when its goroutine has ended
	watchers int
	moments  []snapshot.Moment // the newest ones; of the first one the events may be missing
	changed  chan struct{}     // closed at the next moment, or the end
	err      error             // why it has ended
}

// Follow yields the events after a position, or from now on, as the source does. A position that is remembered costs
// the source nothing, nor does none.
func (f *Feed) Follow(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
	return func(yield func(snapshot.Moment, error) bool) {
		w := &watcher{Feed: f, at: after, yield: yield}
		w.live = f.enter(after) //nolint:contextcheck // what is followed is followed for all watchers
		defer func() { f.leave(w.live) }()
		for {
			remembered, err := w.wait(ctx)
			switch {
			case err != nil && w.isOfAnother(err):
				f.leave(w.live)
				w.live = f.enter(w.at) //nolint:contextcheck // as above
			case err != nil:
				yield(snapshot.Moment{}, err)
				return
			case !remembered && !w.catchUp(ctx), remembered && !w.shared(ctx):
				return
			}
		}
	}
}

// enter counts a watcher, and begins to follow when it is the first one: where this one is.
func (f *Feed) enter(at snapshot.Position) *live {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.live == nil || f.live.err != nil {
		ctx, cancel := context.WithCancel(context.Background())
		l := &live{from: at, cancel: cancel, over: make(chan struct{}), changed: make(chan struct{})}
		f.live = l
		go func() {
			defer close(l.over)
			for m, err := range f.source(ctx, at) {
				f.add(l, m, err)
			}
		}()
	}
	f.live.watchers++
	return f.live
}

// leave ends the following when nobody needs it any more, and waits for that.
func (f *Feed) leave(l *live) {
	f.mu.Lock()
	l.watchers--
	last := l.watchers == 0
	if last && f.live == l {
		f.live = nil
	}
	f.mu.Unlock()
	if last {
		l.cancel()
		<-l.over
	}
}

// add remembers what the source has yielded.
func (f *Feed) add(l *live, m snapshot.Moment, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		l.err = err
	} else {
		if len(l.moments) == kept {
			l.moments = slices.Delete(l.moments, 0, 1)
		}
		l.moments = append(l.moments, m)
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// watcher is one call of Follow.
type watcher struct {
	*Feed
	live  *live
	at    snapshot.Position // up to which it was told everything
	told  bool              // it was told something; at is valid then
	yield func(snapshot.Moment, error) bool
}

// wait waits for the first moment of the following, and reports whether the watcher's position is remembered.
func (w *watcher) wait(ctx context.Context) (remembered bool, err error) {
	for {
		w.mu.Lock()
		l := w.live
		changed, err, began := l.changed, l.err, len(l.moments) > 0
		if began && err == nil {
			remembered = w.isRemembered()
		}
		w.mu.Unlock()
		if began || err != nil {
			return remembered, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, snapshot.Cancelled(ctx, "follow the catalog")
		}
	}
}

// isOfAnother reports whether an error says that the position of another watcher was wrong, where the following began.
// The call of Follow that began it ends with that error, so that the others do not try again for ever.
func (w *watcher) isOfAnother(err error) bool {
	return w.at != w.live.from && snapshot.ReasonOf(err) == snapshot.ReasonWatchExpired
}

// isRemembered reports whether all after the watcher's position is there, or will come. Of a position that is ahead of
// the following, only one that was told is known to be true. w.mu is held.
func (w *watcher) isRemembered() bool {
	first, last := w.live.moments[0].Position, w.live.moments[len(w.live.moments)-1].Position
	switch {
	case w.at.Revision == 0:
		w.at = last
		return true
	case w.at.History != last.History || w.at.History != first.History:
		return false
	case w.at.Revision > last.Revision:
		return w.told
	}
	return w.at.Revision >= first.Revision
}

// shared yields what comes, until it is not remembered any more. It returns false when the watcher is to end.
func (w *watcher) shared(ctx context.Context) bool {
	if !w.told {
		w.told = true
		if !w.yield(snapshot.Moment{Position: w.at}, nil) {
			return false
		}
	}
	for {
		w.mu.Lock()
		l := w.live
		if !w.isRemembered() {
			w.mu.Unlock()
			return true
		}
		i := slices.IndexFunc(l.moments, func(m snapshot.Moment) bool { return m.Revision > w.at.Revision })
		var m snapshot.Moment
		if i >= 0 {
			m = l.moments[i]
		}
		changed, err := l.changed, l.err
		w.mu.Unlock()
		switch {
		case i >= 0:
			w.at = m.Position
			if !w.yield(m, nil) {
				return false
			}
			continue
		case err != nil && w.isOfAnother(err):
			return true // and follows anew
		case err != nil:
			w.yield(snapshot.Moment{}, err)
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			w.yield(snapshot.Moment{}, snapshot.Cancelled(ctx, "follow the catalog"))
			return false
		}
	}
}

// catchUp yields what the source has after the watcher's position, until that is remembered. It returns false when the
// watcher is to end.
func (w *watcher) catchUp(ctx context.Context) bool {
	select {
	case w.places <- struct{}{}:
		defer func() { <-w.places }()
	case <-ctx.Done():
		w.yield(snapshot.Moment{}, snapshot.Cancelled(ctx, "follow the catalog"))
		return false
	}
	for m, err := range w.source(ctx, w.at) {
		told := w.told
		w.told = true
		if err == nil {
			w.at = m.Position
		}
		// The source begins with the position; the watcher may know it already.
		if (err != nil || !told || len(m.Events) > 0) && !w.yield(m, err) || err != nil {
			return false
		}
		w.mu.Lock()
		there := w.isRemembered()
		w.mu.Unlock()
		if there {
			return true
		}
	}
	return false
}
