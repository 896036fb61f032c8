package stall

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// cancelGrace is how long a call may go on after its context has ended.
const cancelGrace = 10 * time.Second

// guarded bounds how long a file system that hangs (an NFS server that is gone) can hold up a caller. A system call on
// it cannot be ended, so each call runs in a goroutine of its own and is given up when nothing moved for the limit. As
// long as one that was given up has not come back, the next ones fail at once.
//
// A call that was given up may still take effect when the file system is back, except a put: its context has ended, and
// the file is not renamed, unless it hung in the renaming itself. Reconcile finds that file.
type guarded struct {
	driver.Store
	limit time.Duration

	mu    sync.Mutex
	hung  int       // calls that were given up and have not come back
	since time.Time // when the first of them was given up
}

// Guard returns a store whose calls end when nothing moved on them for the limit.
func Guard(s driver.Store, limit time.Duration) driver.Store {
	return &guarded{Store: s, limit: limit}
}

// call is one call under way.
type call struct {
	timer   *time.Timer
	limit   time.Duration
	ended   bool // guarded by the store's mutex, like the next one
	givenUp bool
}

// pause stops the timer while the caller, and not the file system, is waited for.
func (c *call) pause() { c.timer.Stop() }

// moved starts the timer again; more is how much longer than usual the next step may take.
func (c *call) moved(more time.Duration) { c.timer.Reset(c.limit + more) }

type result[T any] struct {
	value T
	err   error
}

// run runs fn until it ends or is given up. fn must not touch anything that its caller uses afterwards, and
// drop closes a value that is returned too late.
func run[T any](
	ctx context.Context, g *guarded, drop func(T), fn func(context.Context, *call) (T, error),
) (none T, err error) {
	if err := g.check(); err != nil {
		return none, err
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &call{timer: time.NewTimer(g.limit), limit: g.limit}
	defer c.timer.Stop()
	done := make(chan result[T], 1)
	go func() {
		v, err := fn(inner, c)
		if late := g.end(c); late {
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
	if !g.giveUp(c) {
		r := <-done
		return r.value, r.err
	}
	err = nothingMoved(g.limit, hintFileSystem)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(err)
	return none, err
}

// check refuses a call as long as an earlier one hangs.
func (g *guarded) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hung == 0 {
		return nil
	}
	text := fmt.Sprintf("%d earlier calls have not come back since %s", g.hung, g.since.UTC().Format(time.RFC3339))
	return &Error{text, hintFileSystem}
}

// end notes that a call has come back, and says whether that is too late.
func (g *guarded) end(c *call) (late bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.ended = true
	if c.givenUp {
		g.hung--
	}
	return c.givenUp
}

// giveUp gives a call up, if it has not just ended.
func (g *guarded) giveUp(c *call) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.ended {
		return false
	}
	c.givenUp = true
	if g.hung == 0 {
		g.since = time.Now()
	}
	g.hung++
	return true
}

func (g *guarded) Stat(ctx context.Context, key string) (repository.Object, error) {
	return run(ctx, g, nil, func(ctx context.Context, _ *call) (repository.Object, error) {
		return g.Store.Stat(ctx, key)
	})
}

func (g *guarded) Delete(ctx context.Context, key string) error {
	_, err := run(ctx, g, nil, func(ctx context.Context, _ *call) (struct{}, error) {
		return struct{}{}, g.Store.Delete(ctx, key)
	})
	return err
}

func (g *guarded) Sweep(ctx context.Context, prefix string, opts repository.SweepOptions) (int64, error) {
	return run(ctx, g, nil, func(ctx context.Context, c *call) (int64, error) {
		keep := opts.Keep
		opts.Keep = func(key string) bool {
			c.moved(0)
			return keep != nil && keep(key)
		}
		return g.Store.Sweep(ctx, prefix, opts)
	})
}

// Close closes the store. Calls that were given up may still be under way in it.
func (g *guarded) Close() error { return driver.Close(g.Store) }

// Metadata implements [driver.MetadataReader].
func (g *guarded) Metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	return g.open(ctx, func() (io.ReadCloser, error) { return driver.Metadata(ctx, g.Store, key) })
}
