// Package spool has a file that one goroutine writes while others read it from the start.
package spool

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
)

// File decouples a writer from slow readers: the writer never waits for one.
type File struct {
	file    *os.File
	explain func(op string, err error) error

	mu      sync.Mutex
	size    int64
	done    bool
	err     error         // why it ended early
	changed chan struct{} // closed, and made anew, at each change
}

// Create makes a file that must not exist. explain returns an error of the disk, by what was tried, as the caller's own
// errors are: a full disk must not look like a broken reader.
func Create(path string, explain func(op string, err error) error) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, explain("create", err)
	}
	return &File{file: f, explain: explain, changed: make(chan struct{})}, nil
}

// Write appends. Only one goroutine writes.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.change(func() { f.size += int64(n) })
	if err != nil {
		return n, f.explain("write", err)
	}
	return n, nil
}

// End says that no more is written: readers get io.EOF after the last byte, or err at once. An error also counts after
// a good end: a snapshot that turned out to be bad need not be read further.
func (f *File) End(err error) {
	f.change(func() {
		if !f.done || f.err == nil {
			f.done, f.err = true, err
		}
	})
}

func (f *File) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

// Close closes the file. Readers must have ended.
func (f *File) Close() error { return f.file.Close() }

// Reader returns a reader of the whole file, which waits for bytes that are not written yet. It ends when ctx does.
func (f *File) Reader(ctx context.Context) io.Reader {
	return &reader{ctx: ctx, file: f}
}

type reader struct {
	ctx  context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	file *File
	off  int64
}

func (r *reader) Read(p []byte) (int, error) {
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
				return n, r.file.explain("read", err)
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
