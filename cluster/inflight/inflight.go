// Package inflight knows the work that this process does on the snapshots of one cluster: the save that runs, and the
// copy that is repaired. No other replica knows of it, so leftovers that belong to it are not swept here.
package inflight

import (
	"context"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Work is the work under way. R is the result of a save. The zero value is ready for use, and its methods may be
// called at once from several goroutines.
type Work[R any] struct {
	mu       sync.Mutex
	save     *Run[R] // nil when none runs
	copying  string  // name of the snapshot that is being repaired
	lastUnix int64   // the newest second that a name was made of
}

// Run is the save that runs in this process. A repeated request waits for its outcome.
type Run[R any] struct {
	requestID string
	name      string // of the snapshot, once it has one; guarded by Work.mu
	done      chan struct{}
	res       R
	err       error
}

// Join begins a save, or returns the one under way that has the same request id. It returns nil when another save runs.
func (w *Work[R]) Join(requestID string) (r *Run[R], joined bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.save == nil {
		w.save = &Run[R]{requestID: requestID, done: make(chan struct{})}
		return w.save, false
	}
	if requestID != "" && w.save.requestID == requestID {
		return w.save, true
	}
	return nil, false
}

// Finish ends a save, and gives its outcome to all calls that have joined it. The next save may begin before they
// have read it.
func (w *Work[R]) Finish(r *Run[R], res R, err error) {
	r.res, r.err = res, err
	w.mu.Lock()
	w.save = nil
	w.mu.Unlock()
	close(r.done)
}

// Wait returns the outcome of a save that another call runs.
func (r *Run[R]) Wait(ctx context.Context) (R, error) {
	select {
	case <-r.done:
		return r.res, r.err
	case <-ctx.Done():
		var none R
		return none, snapshot.Cancelled(ctx, "wait for the save with the same request id")
	}
}

// NextName returns the name of the running save's snapshot: each second is used once, so that two saves in one second
// get two names.
func (w *Work[R]) NextName(start time.Time, name func(unix int64) string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lastUnix-start.Unix() > int64(snapshot.ClockTolerance.Seconds()) {
		w.lastUnix = 0 // the clock was ahead, and has been corrected
	}
	w.lastUnix = max(start.Unix(), w.lastUnix+1)
	w.save.name = name(w.lastUnix)
	return w.save.name
}

// SetCopying notes the snapshot that is being repaired; empty when none is.
func (w *Work[R]) SetCopying(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.copying = name
}

// Has reports whether this process is saving or repairing the snapshot of that name.
func (w *Work[R]) Has(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.save != nil && w.save.name == name || name != "" && w.copying == name
}

// Saving reports whether this process saves the cluster.
func (w *Work[R]) Saving() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.save != nil
}
