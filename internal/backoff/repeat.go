package backoff

import (
	"context"
	"math"
	"sync"
	"time"
)

// Never is a pause that only waking ends.
const Never = time.Duration(math.MaxInt64)

// Repeat calls do after a first pause, and again after the pause that each call returns, until ctx is done. Calls do
// not overlap. wake ends a pause, or makes the call under way be followed by another one. work is done when ctx is,
// after the call under way.
//
// No goroutine waits during a pause: a process has several such repetitions for each of a thousand clusters, and a
// goroutine that waits keeps the stack that its last call needed.
func Repeat(
	ctx context.Context, work *sync.WaitGroup, first time.Duration, do func(context.Context) (pause time.Duration),
) (wake func()) {
	r := &repetition{work: work}
	work.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer = time.AfterFunc(first, func() {
		for r.begin(ctx) {
			if !r.end(do(ctx)) {
				return
			}
		}
	})
	context.AfterFunc(ctx, r.stop)
	return r.wake
}

// repetition is the state of one call of Repeat.
type repetition struct {
	work *sync.WaitGroup

	mu      sync.Mutex
	timer   *time.Timer // of the pause
	running bool        // a call is under way
	woken   bool        // while it is
	over    bool
}

// begin reports whether a call is to be made.
func (r *repetition) begin(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.running || ctx.Err() != nil {
		return false
	}
	r.running, r.woken = true, false
	return true
}

// end ends a call, and begins a pause. It reports whether the next call is to be made at once.
func (r *repetition) end(pause time.Duration) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = false
	switch {
	case r.over:
		r.work.Done()
	case r.woken || pause <= 0:
		return true
	default:
		r.timer.Reset(pause)
	}
	return false
}

func (r *repetition) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.woken = true
	if !r.running && !r.over {
		r.timer.Reset(0)
	}
}

func (r *repetition) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timer.Stop()
	if r.over = true; !r.running {
		r.work.Done()
	}
}
