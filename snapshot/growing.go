package snapshot

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
)

// growing is a file that one goroutine writes while others read it from the start. It decouples etcd from slow backends:
// the writer never waits for a reader.
type growing struct {
	f *os.File

	mu      sync.Mutex
	size    int64
	done    bool
	err     error         // why it ended early
	changed chan struct{} // closed, and made anew, at each change
}

func newGrowing(path string) (*growing, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, spoolError("create", err)
	}
	return &growing{f: f, changed: make(chan struct{})}, nil
}

// Write appends. Only one goroutine writes.
func (g *growing) Write(p []byte) (int, error) {
	n, err := g.f.Write(p)
	g.change(func() { g.size += int64(n) })
	if err != nil {
		return n, spoolError("write", err)
	}
	return n, nil
}

// End says that no more is written: readers get io.EOF after the last byte, or err at once. An error counts also after a
// good end: what turned out to be bad need not be read further.
func (g *growing) End(err error) {
	g.change(func() {
		if !g.done || g.err == nil {
			g.done, g.err = true, err
		}
	})
}

func (g *growing) change(fn func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fn()
	close(g.changed)
	g.changed = make(chan struct{})
}

// Close closes the file. Readers must have ended.
func (g *growing) Close() error { return g.f.Close() }

// Reader returns a reader of the whole file, which waits for bytes that are not written yet. It ends when ctx does.
func (g *growing) Reader(ctx context.Context) io.Reader {
	return &growingReader{ctx: ctx, g: g}
}

type growingReader struct {
	ctx context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	g   *growing
	off int64
}

func (r *growingReader) Read(p []byte) (int, error) {
	for {
		r.g.mu.Lock()
		size, done, err, changed := r.g.size, r.g.done, r.g.err, r.g.changed
		r.g.mu.Unlock()
		switch {
		case err != nil:
			return 0, err
		case r.ctx.Err() != nil:
			return 0, context.Cause(r.ctx)
		case r.off < size:
			n, err := r.g.f.ReadAt(p[:min(int64(len(p)), size-r.off)], r.off)
			r.off += int64(n)
			if err != nil && !errors.Is(err, io.EOF) {
				return n, spoolError("read", err)
			}
			return n, nil
		case done:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
		}
	}
}

// spoolError says what failed in the spool, and what to do about a full disk.
func spoolError(op string, err error) error {
	e := &Error{Reason: ReasonInternal, Message: op + " the spool", Err: err}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		e.Reason = ReasonNoSpace
		e.Hint = hintSpool
	}
	return e
}
