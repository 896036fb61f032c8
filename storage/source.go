package storage

import (
	"context"
	"io"
)

// copyBuffer is how much is read at once. Both kinds of writers pass it on without collecting it.
const copyBuffer = 256 << 10

// source is what is stored. It remembers why it broke off, to tell that from an error of the backend, and ends when ctx
// does.
type source struct {
	ctx context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF { // wrapped, it broke off
		s.err = err
	}
	return n, err
}

// copyTo gives all bytes to w.
func (s *source) copyTo(w io.Writer) error {
	// The plain types keep io.Copy from taking short cuts that know neither s nor w.
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{s}, make([]byte, copyBuffer))
	return err
}

// verbatim is an error of somebody else's, which is passed on as it is.
type verbatim struct{ error }

func (v *verbatim) Unwrap() error { return v.error }
