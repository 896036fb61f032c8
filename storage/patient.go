package storage

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// cancelGrace is how long a call may go on after its context has ended.
const cancelGrace = 10 * time.Second

// syncRate is what even a slow disk makes durable in a second: the last sync of a file gets a second more for so many bytes.
const syncRate = 10 << 20

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
	stalled bool
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
	if c.stalled {
		p.hung--
	}
	return c.stalled
}

// giveUp gives a call up, if it has not just ended.
func (p *patientStore) giveUp(c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.ended {
		return false
	}
	if c.stalled = true; p.hung == 0 {
		p.since = time.Now()
	}
	p.hung++
	return true
}

func (p *patientStore) put(ctx context.Context, key string, r *source, opts snapshot.PutOptions) error {
	// Only this call may look at r afterwards, and only when it has come back.
	broke, err := patiently(ctx, p, nil, func(ctx context.Context, c *call) (error, error) {
		src := &source{ctx: ctx, r: &watchedReader{r: r.r, call: c}}
		err := p.store.put(ctx, key, src, opts)
		return src.err, err
	})
	r.err = broke
	return err
}

// watchedReader stops the clock while the caller's reader is waited for.
type watchedReader struct {
	r    io.Reader
	call *call
	n    int64
}

func (w *watchedReader) Read(b []byte) (int, error) {
	w.call.rest()
	n, err := w.r.Read(b)
	w.n += int64(n)
	more := time.Duration(0)
	if err != nil {
		more = time.Duration(w.n/syncRate) * time.Second
	}
	w.call.beat(more)
	return n, err
}

func (p *patientStore) get(ctx context.Context, key string, x extent) (io.ReadCloser, error) {
	return p.open(ctx, func() (io.ReadCloser, error) { return p.store.get(ctx, key, x) })
}

func (p *patientStore) open(ctx context.Context, open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	r, err := patiently(ctx, p, closeLate, func(context.Context, *call) (io.ReadCloser, error) {
		return open() // it is read after this call
	})
	if err != nil {
		return nil, err
	}
	return &patientReader{p: p, ctx: ctx, r: r}, nil
}

func closeLate(r io.ReadCloser) { _ = r.Close() }

// patientReader reads an object. What a read that was given up writes to is not the caller's.
type patientReader struct {
	p   *patientStore
	ctx context.Context //nolint:containedctx // the object is read under the context that opened it
	r   io.ReadCloser

	buf  []byte
	rest []byte // of buf: read and not taken yet
	err  error
}

func (r *patientReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 && r.err == nil {
		r.fill()
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	if len(r.rest) > 0 {
		return n, nil
	}
	return n, r.err
}

func (r *patientReader) fill() {
	if r.buf == nil {
		r.buf = make([]byte, copyBuffer)
	}
	buf, src := r.buf, r.r
	read, err := patiently(r.ctx, r.p, nil, func(context.Context, *call) (result[int], error) {
		n, err := src.Read(buf)
		return result[int]{n, err}, nil
	})
	if err == nil {
		r.rest, r.err = buf[:read.value], read.err
		return
	}
	r.rest, r.err, r.r = nil, err, nil // what hangs cannot be closed either
}

func (r *patientReader) Close() error {
	if r.r == nil {
		return nil
	}
	return r.r.Close()
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

// listBatch is how many objects are handed over at once.
const listBatch = 256

func (p *patientStore) list(ctx context.Context, prefix string) iter.Seq2[snapshot.Object, error] {
	return func(yield func(snapshot.Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // the consumer may have enough
		batches := make(chan []snapshot.Object)
		failed := make(chan error, 1)
		go func() {
			_, err := patiently(ctx, p, nil, func(ctx context.Context, c *call) (struct{}, error) {
				return struct{}{}, p.listInto(ctx, c, prefix, batches)
			})
			failed <- err
		}()
		for {
			select {
			case batch := <-batches:
				for _, o := range batch {
					if !yield(o, nil) {
						return
					}
				}
			case err := <-failed:
				if err != nil {
					yield(snapshot.Object{}, err)
				}
				return
			}
		}
	}
}

// listInto sends a listing in batches. The clock rests while the consumer is waited for.
func (p *patientStore) listInto(ctx context.Context, c *call, prefix string, to chan<- []snapshot.Object) error {
	var batch []snapshot.Object
	send := func() error {
		c.rest()
		defer c.beat(0)
		select {
		case to <- batch:
			batch = nil
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for o, err := range p.store.list(ctx, prefix) {
		if err != nil {
			if serr := send(); serr != nil {
				return serr
			}
			return err
		}
		c.beat(0)
		if batch = append(batch, o); len(batch) == listBatch {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}
