package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// rawCopy reads a copy as it is stored, without any key, and compares it with the snapshot: io.EOF comes only when size and
// checksum were right. Whoever writes what it reads commits nothing else.
type rawCopy struct {
	in     *storedReader
	object io.Closer
	want   *Snapshot
	where  string
	name   string
	err    error // what reading this copy has ended with; io.EOF when it is good
}

// openRaw opens a copy as it is stored. The caller closes it.
func openRaw(ctx context.Context, b Backend, key string, s *Snapshot) (*rawCopy, error) {
	object, err := b.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	in := &storedReader{r: object, sum: sha256.New(), limit: s.StoredSize}
	return &rawCopy{in: in, object: object, want: s, where: b.URI(key), name: b.Name()}, nil
}

func (c *rawCopy) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.in.Read(p)
	if errors.Is(err, io.EOF) {
		err = c.verify()
	}
	c.err = err
	return n, err
}

// verify returns io.EOF when what was read is the snapshot.
func (c *rawCopy) verify() error {
	var why error
	sum := hex.EncodeToString(c.in.sum.Sum(nil))
	switch {
	case c.in.n != c.want.StoredSize:
		why = fmt.Errorf("it has %d bytes instead of %d", c.in.n, c.want.StoredSize)
	case sum != c.want.StoredSHA256:
		why = fmt.Errorf("its sha256 is %s instead of %s", sum, c.want.StoredSHA256)
	default:
		return io.EOF
	}
	return &Error{
		Reason: ReasonChecksumMismatch, Backend: c.name, Message: fmt.Sprintf("read %s", c.where), Err: why,
		Hint: "this copy is damaged; repair replaces it when another backend has a good one",
	}
}

// failed returns what is wrong with this copy or with reading it, and nil when nothing is.
func (c *rawCopy) failed() error {
	if errors.Is(c.err, io.EOF) {
		return nil
	}
	return c.err
}

// Close ends the reading, wherever it is.
func (c *rawCopy) Close() error { return c.object.Close() }
