package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// inflight knows what this process does to the cluster's snapshots right now: the save that runs, and the copy that is
// repaired. Leftovers that belong to them are not swept.
type inflight struct {
	mu       sync.Mutex
	save     *run   // nil when none runs
	copying  string // name of the snapshot that is being repaired
	lastUnix int64  // the newest second that a name was made of
}

// run is the save that runs in this process. A repeated request waits for its outcome.
type run struct {
	requestID string
	name      string // of the snapshot, once it has one; guarded by inflight.mu
	done      chan struct{}
	res       SaveResult
	err       error
}

// join begins a save, or returns the one under way that has the same request id. It returns nil when another save runs.
func (f *inflight) join(requestID string) (r *run, joined bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.save == nil {
		f.save = &run{requestID: requestID, done: make(chan struct{})}
		return f.save, false
	}
	if requestID != "" && f.save.requestID == requestID {
		return f.save, true
	}
	return nil, false
}

// finish ends a save.
func (f *inflight) finish(r *run, res SaveResult, err error) {
	r.res, r.err = res, err
	f.mu.Lock()
	f.save = nil
	f.mu.Unlock()
	close(r.done)
}

// wait returns the outcome of a save that another call runs.
func (r *run) wait(ctx context.Context) (SaveResult, error) {
	select {
	case <-r.done:
		return r.res, r.err
	case <-ctx.Done():
		return SaveResult{}, snapshot.Cancelled(ctx, "wait for the save with the same request id")
	}
}

// nextName returns the name of the running save's snapshot: each second is used once, so that two saves in one second get
// two names.
func (f *inflight) nextName(start time.Time, name func(unix int64) string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lastUnix-start.Unix() > int64(snapshot.ClockTolerance.Seconds()) {
		f.lastUnix = 0 // the clock was ahead, and has been corrected
	}
	f.lastUnix = max(start.Unix(), f.lastUnix+1)
	f.save.name = name(f.lastUnix)
	return f.save.name
}

// setCopying notes the snapshot that is being repaired; empty when none is.
func (f *inflight) setCopying(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.copying = name
}

// has reports whether this process is saving or repairing the snapshot of that name.
func (f *inflight) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.save != nil && f.save.name == name || name != "" && f.copying == name
}

// saving reports whether this process saves the cluster.
func (f *inflight) saving() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.save != nil
}
