package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/snapshotd/snapshotd/internal/seekable"
)

// OpenCopy opens the copy of a snapshot that a backend holds under key and returns what etcd sent: the database and its
// trailing checksum. Size and checksum of the object as it is stored and of the database are compared with the snapshot's
// as the bytes go by, so that only a reader that has got io.EOF has read a good copy; until then it may have read anything.
// What does not fit is an [Error] with ReasonChecksumMismatch. Expectations that the snapshot does not have (an empty
// checksum, a size of 0) are not checked.
func OpenCopy(ctx context.Context, b Backend, key string, s *Snapshot) (io.ReadCloser, error) {
	object, err := b.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	c := &copyReader{
		stored: &storedReader{r: object, sum: sha256.New(), limit: s.StoredSize}, object: object,
		trailer: newTrailer(), want: s, where: fmt.Sprintf("read %s", b.URI(key)), backend: b.Name(),
	}
	if c.decoded, err = decode(c.stored, s); err != nil {
		_ = object.Close()
		return nil, c.damaged(err)
	}
	return c, nil
}

// decode returns the bytes that etcd sent of an object as it is stored.
func decode(r io.Reader, s *Snapshot) (io.ReadCloser, error) {
	switch s.Compression {
	case CompressionNone:
		return io.NopCloser(r), nil
	case CompressionZstd:
		return seekable.NewReader(r)
	default:
		return nil, fmt.Errorf("its compression %s is not known", s.Compression)
	}
}

// copyReader reads a copy and compares it with what it should be.
type copyReader struct {
	object  io.Closer
	stored  *storedReader
	decoded io.ReadCloser
	trailer *trailer
	want    *Snapshot
	where   string
	backend string
	end     error
}

func (c *copyReader) Read(p []byte) (int, error) {
	if c.end != nil {
		return 0, c.end
	}
	n, err := c.decoded.Read(p)
	_, _ = c.trailer.Write(p[:n])
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF: // a wrapped one is not the end
		c.end = c.verify()
	case c.stored.err != nil && !errors.Is(c.stored.err, io.EOF):
		c.end = c.stored.err // the backend's own error says more than the decoder's
	default:
		c.end = c.damaged(err)
	}
	return n, c.end
}

// verify compares what was read with the snapshot, and returns io.EOF when it fits.
func (c *copyReader) verify() error {
	if _, err := io.Copy(io.Discard, c.stored); err != nil {
		return err // what follows the decoder's end counts, too
	}
	size, sum, err := c.trailer.Verify()
	stored := hex.EncodeToString(c.stored.sum.Sum(nil))
	switch w := c.want; {
	case w.StoredSize > 0 && c.stored.n != w.StoredSize:
		return c.damaged(fmt.Errorf("it has %d bytes instead of %d", c.stored.n, w.StoredSize))
	case w.StoredSHA256 != "" && stored != w.StoredSHA256:
		return c.damaged(fmt.Errorf("its sha256 is %s instead of %s", stored, w.StoredSHA256))
	case err != nil:
		return c.damaged(messageOf(err))
	case w.DBSize > 0 && size != w.DBSize:
		return c.damaged(fmt.Errorf("the database in it has %d bytes instead of %d", size, w.DBSize))
	case w.SHA256 != "" && sum != w.SHA256:
		return c.damaged(fmt.Errorf("the sha256 of the database in it is %s instead of %s", sum, w.SHA256))
	}
	return io.EOF
}

// messageOf returns an error without its hint, which speaks of etcd's stream.
func messageOf(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

func (c *copyReader) damaged(err error) error {
	return &Error{
		Reason: ReasonChecksumMismatch, Backend: c.backend, Message: c.where, Err: err,
		Hint: "this copy is damaged; use another backend's or another snapshot",
	}
}

// Close ends the reading, wherever it is.
func (c *copyReader) Close() error {
	return errors.Join(c.decoded.Close(), c.object.Close())
}

// storedReader hashes and counts the object as it is stored.
type storedReader struct {
	r     io.Reader
	sum   hash.Hash
	n     int64
	limit int64 // what is longer is not read to its end; 0 is no limit
	err   error
}

func (s *storedReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	s.sum.Write(p[:n])
	if s.limit > 0 && s.n > s.limit && err == nil {
		err = io.EOF // it is too long, and the count says so
	}
	s.err = err
	return n, err
}
