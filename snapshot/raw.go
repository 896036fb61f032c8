package snapshot

import (
	"context"
	"errors"
	"io"
)

// rawCopy reads a copy as it is stored, without any key, and remembers what was wrong with it: io.EOF comes only when size
// and checksum were right, so whoever writes what it reads commits nothing else.
type rawCopy struct {
	io.ReadCloser
	err error // what reading has ended with; io.EOF when the copy is good
}

// openRaw opens a copy as it is stored. The caller closes it.
func openRaw(ctx context.Context, b Backend, key string, s *Snapshot) (*rawCopy, error) {
	r, err := OpenStored(ctx, b, key, s)
	if err != nil {
		return nil, err
	}
	return &rawCopy{ReadCloser: r}, nil
}

func (c *rawCopy) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.err = err
	return n, err
}

// failed returns what is wrong with this copy or with reading it, and nil when nothing is.
func (c *rawCopy) failed() error {
	if errors.Is(c.err, io.EOF) {
		return nil
	}
	return c.err
}
