package storage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// cancelGrace is how long a call may go on after its context has ended.
const cancelGrace = 10 * time.Second

// patientStore bounds what a file system that hangs (an NFS server that is gone) can hold up. A system call on it cannot be
// ended, so each call runs in a goroutine of its own and is given up when nothing moved for the stall time. As long as one
// that was given up has not come back, the next ones fail at once.
//
// What was given up may still happen when the file system is back, but for a put: its context has ended, and the file is
// not renamed, unless it hung in the renaming itself. Then reconcile finds it.
type patientStore struct {
	store
	stall time.Duration

	mu    sync.Mutex
	hung  int       // calls that were given up and have not come back
	since time.Time // when the first of them was given up
}

// hungError is that the file system does not answer.
type hungError struct{ text string }

func (e *hungError) Error() string { return e.text }

// call is one call under way.
type call struct {
	timer   *time.Timer
	stall   time.Duration
	ended   bool // guarded by the store's mutex, like the next one
	givenUp bool
}

// rest stops the clock while it is not the file system that is waited for.
func (c *call) rest() { c.timer.Stop() }

// beat says that something moved; more is how much longer than usual the next step may take.
func (c *call) beat(more time.Duration) { c.timer.Reset(c.stall + more) }

type result[T any] struct {
	value T
	err   error
}

// patiently runs fn until it ends or is given up. fn must not touch what its caller uses afterwards, and drop gives back
// what it returns too late.
func patiently[T any](ctx context.Context, p *patientStore, drop func(T), fn func(context.Context, *call) (T, error)) (none T, err error) {
	if err := p.check(); err != nil {
		return none, err
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &call{timer: time.NewTimer(p.stall), stall: p.stall}
	defer c.timer.Stop()
	done := make(chan result[T], 1)
	go func() {
		v, err := fn(inner, c)
		if late := p.end(c); late {
			if err == nil && drop != nil {
				drop(v)
			}
			return
		}
		done <- result[T]{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-c.timer.C:
	case <-ctx.Done():
		select {
		case r := <-done:
			return r.value, r.err
		case <-time.After(cancelGrace):
		}
	}
	if !p.giveUp(c) {
		r := <-done
		return r.value, r.err
	}
	err = &hungError{fmt.Sprintf("nothing moved for %v", p.stall)}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(err)
	return none, err
}

// check refuses a call as long as an earlier one hangs.
func (p *patientStore) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hung == 0 {
		return nil
	}
	return &hungError{fmt.Sprintf("%d earlier calls have not come back since %s", p.hung, p.since.UTC().Format(time.RFC3339))}
}

// end notes that a call has come back, and says whether that is too late.
func (p *patientStore) end(c *call) (late bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.ended = true
	if c.givenUp {
		p.hung--
	}
	return c.givenUp
}

// giveUp gives a call up, if it has not just ended.
func (p *patientStore) giveUp(c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.ended {
		return false
	}
	c.givenUp = true
	if p.hung == 0 {
		p.since = time.Now()
	}
	p.hung++
	return true
}

func (p *patientStore) stat(ctx context.Context, key string) (snapshot.Object, error) {
	return patiently(ctx, p, nil, func(ctx context.Context, _ *call) (snapshot.Object, error) { return p.store.stat(ctx, key) })
}

func (p *patientStore) remove(ctx context.Context, key string) error {
	_, err := patiently(ctx, p, nil, func(ctx context.Context, _ *call) (struct{}, error) { return struct{}{}, p.store.remove(ctx, key) })
	return err
}

func (p *patientStore) sweep(ctx context.Context, prefix string, opts snapshot.SweepOptions) (int64, error) {
	return patiently(ctx, p, nil, func(ctx context.Context, c *call) (int64, error) {
		keep := opts.Keep
		opts.Keep = func(key string) bool {
			c.beat(0)
			return keep != nil && keep(key)
		}
		return p.store.sweep(ctx, prefix, opts)
	})
}
