package cluster

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/snapshotd/snapshotd/repository"
)

// spoolFile is a file that one goroutine writes while others read it from the start. It decouples etcd from slow backends:
// the writer never waits for a reader.
type spoolFile struct {
	file *os.File

	mu      sync.Mutex
	size    int64
	done    bool
	err     error         // why it ended early
	changed chan struct{} // closed, and made anew, at each change
}

func newSpoolFile(path string) (*spoolFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, repository.SpoolError("create", err)
	}
	return &spoolFile{file: f, changed: make(chan struct{})}, nil
}

// Write appends. Only one goroutine writes.
func (f *spoolFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.change(func() { f.size += int64(n) })
	if err != nil {
		return n, repository.SpoolError("write", err)
	}
	return n, nil
}

// End says that no more is written: readers get io.EOF after the last byte, or err at once. An error also counts after a
// good end: a snapshot that turned out to be bad need not be read further.
func (f *spoolFile) End(err error) {
	f.change(func() {
		if !f.done || f.err == nil {
			f.done, f.err = true, err
		}
	})
}

func (f *spoolFile) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

// Close closes the file. Readers must have ended.
func (f *spoolFile) Close() error { return f.file.Close() }

// Reader returns a reader of the whole file, which waits for bytes that are not written yet. It ends when ctx does.
func (f *spoolFile) Reader(ctx context.Context) io.Reader {
	return &spoolReader{ctx: ctx, file: f}
}

type spoolReader struct {
	ctx  context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	file *spoolFile
	off  int64
}

func (r *spoolReader) Read(p []byte) (int, error) {
	for {
		r.file.mu.Lock()
		size, done, err, changed := r.file.size, r.file.done, r.file.err, r.file.changed
		r.file.mu.Unlock()
		switch {
		case err != nil:
			return 0, err
		case r.ctx.Err() != nil:
			return 0, context.Cause(r.ctx)
		case r.off < size:
			n, err := r.file.file.ReadAt(p[:min(int64(len(p)), size-r.off)], r.off)
			r.off += int64(n)
			if err != nil && !errors.Is(err, io.EOF) {
				return n, repository.SpoolError("read", err)
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
