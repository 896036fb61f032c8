package driver

import (
	"context"
	"io"
	"sync"
)

// Source gives the bytes that are stored. It ends when its context does, and remembers why it broke off, to tell that
// from an error of the store.
type Source struct {
	ctx context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	r   io.Reader

	mu  sync.Mutex // a store that was given up may still read
	n   int64
	err error
}

// NewSource returns a source of the bytes of r.
func NewSource(ctx context.Context, r io.Reader) *Source { return &Source{ctx: ctx, r: r} }

// Read implements [io.Reader].
func (s *Source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += int64(n)
	if err != nil && err != io.EOF { // wrapped, it broke off
		s.err = err
	}
	return n, err
}

// Size returns how many bytes were read.
func (s *Source) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// Err returns the error with which the reader broke off, if it did.
func (s *Source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
