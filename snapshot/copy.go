package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/codec/seekable"
	"github.com/snapshotd/snapshotd/internal/codec/zip"
)

// OpenCopy opens the copy of a snapshot that a backend holds under key and returns what etcd sent: the database and its
// trailing checksum. Size and checksum of the object as it is stored and of the database are compared with the snapshot's
// as the bytes go by, so that only a reader that has got io.EOF has read a good copy; until then it may have read anything.
// What does not fit is an [Error] with ReasonChecksumMismatch. Expectations that the snapshot does not have (an empty
// checksum, a size of 0) are not checked.
//
// A sealed copy needs the identity of one of its recipients; without one the error is an [Error] with
// ReasonSnapshotSealed.
func OpenCopy(ctx context.Context, b Backend, key string, s *Snapshot, identities ...age.Identities) (io.ReadCloser, error) {
	return openDecoded(ctx, b, key, s, newTrailer(), identities)
}

// openDecoded opens the database in a copy; without a trailer, the checksum at its end, if there is one, is not looked at.
func openDecoded(ctx context.Context, b Backend, key string, s *Snapshot, t *trailer, identities []age.Identities) (io.ReadCloser, error) {
	c, err := openObject(ctx, b, key, s)
	if err != nil {
		return nil, err
	}
	c.trailer = t
	if c.decoded, err = c.decode(identities); err != nil {
		_ = c.object.Close()
		return nil, err
	}
	return c, nil
}

// OpenStored opens the copy of a snapshot that a backend holds under key and returns the object as it is stored,
// compressed and encrypted as it may be. Size and checksum are compared with the snapshot's as [OpenCopy] does it, so a
// sealed copy can be checked and copied without any identity; what is inside is not looked at.
func OpenStored(ctx context.Context, b Backend, key string, s *Snapshot) (io.ReadCloser, error) {
	c, err := openObject(ctx, b, key, s)
	if err != nil {
		return nil, err
	}
	c.decoded = io.NopCloser(c.stored)
	return c, nil
}

func openObject(ctx context.Context, b Backend, key string, s *Snapshot) (*copyReader, error) {
	object, err := b.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return &copyReader{
		stored: &storedReader{r: object, sum: sha256.New(), limit: s.StoredSize}, object: object,
		want: s, where: fmt.Sprintf("read %s", b.URI(key)), backend: b.Name(),
	}, nil
}

// decode returns the bytes that etcd sent of the object as it is stored.
func (c *copyReader) decode(identities []age.Identities) (io.ReadCloser, error) {
	opened, err := c.unseal(identities)
	if err != nil {
		return nil, err
	}
	decoded, err := decompress(opened, c.want)
	if err != nil {
		return nil, c.damaged(err)
	}
	return decoded, nil
}

// unseal returns the object, decrypted if it is sealed.
func (c *copyReader) unseal(identities []age.Identities) (io.Reader, error) {
	if !c.want.Sealed() {
		return c.stored, nil
	}
	all := age.Join(identities...)
	opened, err := all.NewReader(c.stored)
	switch {
	case err == nil:
		return opened, nil
	case c.stored.err != nil && !errors.Is(c.stored.err, io.EOF):
		return nil, c.stored.err
	case errors.Is(err, age.ErrNoIdentity) && !all.Of(c.want.EncryptionRecipients):
		return nil, c.sealed(all.Empty())
	default: // also when it is not sealed for one that it says it is
		return nil, c.damaged(err)
	}
}

// sealed is the error that the identity is missing.
func (c *copyReader) sealed(none bool) error {
	what := "none of the identities at hand is that of one of them"
	if none {
		what = "there is no identity at hand"
	}
	return &Error{
		Reason: ReasonSnapshotSealed, Backend: c.backend,
		Message: fmt.Sprintf("%s: it is encrypted for %s, and %s", c.where, shortKeys(c.want.EncryptionRecipients), what),
		Hint:    "give the file with the identity, the private key, of one of these recipients: --identity of restore and verify --from, encryption.identity_files of the service",
	}
}

// shortKeys names public keys for a person; what is left of long ones is enough to find them.
func shortKeys(keys []string) string {
	var short []string
	for _, k := range keys {
		if len(k) > 90 {
			k = k[:40] + "…" + k[len(k)-40:]
		}
		short = append(short, k)
	}
	return strings.Join(short, ", ")
}

// decompress returns what a compressed object holds.
func decompress(r io.Reader, s *Snapshot) (io.ReadCloser, error) {
	switch s.Compression {
	case CompressionNone:
		return io.NopCloser(r), nil
	case CompressionZstd:
		return seekable.NewReader(r)
	case CompressionZip:
		return io.NopCloser(zip.NewReader(r)), nil
	default:
		return nil, fmt.Errorf("its compression %s is not known", s.Compression)
	}
}

// copyReader reads a copy and compares it with what it should be.
type copyReader struct {
	object  io.Closer
	stored  *storedReader
	decoded io.ReadCloser
	trailer *trailer // nil when the database in it is not looked at
	want    *Snapshot
	where   string
	backend string
	end     error

	dbSize int64  // of what was read, once it has ended well
	dbSum  string // sha256 in hex
}

func (c *copyReader) Read(p []byte) (int, error) {
	if c.end != nil {
		return 0, c.end
	}
	n, err := c.decoded.Read(p)
	if c.trailer != nil {
		_, _ = c.trailer.Write(p[:n])
	}
	switch err {
	case nil:
		return n, nil
	case io.EOF: // a wrapped one is not the end
		c.end = c.verify()
	default:
		c.end = c.failed(err)
	}
	return n, c.end
}

// WriteTo implements [io.WriterTo]: what Read would give is written, and hashed at the same time. It returns nil when a good
// copy was read to its end. An error of w is returned as it is, and ends the reading.
func (c *copyReader) WriteTo(w io.Writer) (int64, error) {
	if c.end != nil {
		return 0, orEnd(c.end)
	}
	beside := hashBeside(c.trailer, w)
	n, err := io.CopyBuffer(beside, c.decoded, make([]byte, fetchBuffer))
	beside.stop()
	switch {
	case beside.err != nil:
		c.end = beside.err
	case err == nil:
		c.end = c.verify()
	default:
		c.end = c.failed(err)
	}
	return n, orEnd(c.end)
}

// orEnd returns no error for the end of what is read.
func orEnd(err error) error {
	if err == io.EOF { //nolint:errorlint // a wrapped one is not the end
		return nil
	}
	return err
}

// failed returns what an error of the decoder comes from.
func (c *copyReader) failed(err error) error {
	if c.stored.err != nil && !errors.Is(c.stored.err, io.EOF) {
		return c.stored.err // the backend's own error says more than the decoder's
	}
	return c.damaged(err)
}

// verify compares what was read with the snapshot, and returns io.EOF when it fits.
func (c *copyReader) verify() error {
	if _, err := io.Copy(io.Discard, c.stored); err != nil {
		return err // what follows the decoder's end counts, too
	}
	stored := c.stored.hex()
	switch w := c.want; {
	case w.StoredSize > 0 && c.stored.n != w.StoredSize:
		return c.damaged(fmt.Errorf("it has %d bytes instead of %d", c.stored.n, w.StoredSize))
	case w.StoredSHA256 != "" && stored != w.StoredSHA256:
		return c.damaged(fmt.Errorf("its sha256 is %s instead of %s", stored, w.StoredSHA256))
	case c.trailer == nil:
		return io.EOF
	default:
		return c.verifyDatabase()
	}
}

// verifyDatabase compares the database with the snapshot, and returns io.EOF when it fits.
func (c *copyReader) verifyDatabase() error {
	size, sum, err := c.trailer.Verify()
	c.dbSize, c.dbSum = size, sum
	switch w := c.want; {
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

// hex returns the sha256 of what was read.
func (s *storedReader) hex() string { return hex.EncodeToString(s.sum.Sum(nil)) }

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
