package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/codec/seekable"
	"github.com/snapshotd/snapshotd/internal/codec/zip"
	"github.com/snapshotd/snapshotd/snapshot"
)

// OpenCopy opens the copy of a snapshot and returns the bytes that etcd sent: the database and its trailing checksum.
// Size and checksum of the object as it is stored and of the database are compared with the snapshot's as the bytes go
// by, so that only a reader that has got io.EOF has read a good copy; the bytes before are not known to be good. A copy
// that differs is an error with ReasonChecksumMismatch. Expectations that the snapshot does not have (an empty
// checksum, a size of 0) are not checked.
//
// An encrypted copy needs the identity of one of its recipients; without one the error has ReasonSnapshotSealed.
func (r *Repository) OpenCopy(ctx context.Context, rec *snapshot.Record, ids age.Identities) (io.ReadCloser, error) {
	c, err := r.openDecoded(ctx, r.dataKey(rec), &rec.Snapshot, NewTrailer(), ids)
	if err != nil {
		return nil, err // not c: a nil *copyReader would be a reader that is not nil
	}
	return c, nil
}

// openDecoded opens the database in a copy; without a trailer, a checksum at its end is not looked at.
func (r *Repository) openDecoded(
	ctx context.Context, key string, want *snapshot.Snapshot, t *Trailer, ids age.Identities,
) (*copyReader, error) {
	return r.openRange(ctx, key, Range{}, want, t, ids)
}

// openRange opens the database in a range of a copy, the head of which may be all that the caller wants.
func (r *Repository) openRange(
	ctx context.Context, key string, part Range, want *snapshot.Snapshot, t *Trailer, ids age.Identities,
) (*copyReader, error) {
	c, err := r.openObject(ctx, key, part, want)
	if err != nil {
		return nil, err
	}
	c.trailer = t
	if c.decoded, err = c.decode(ids); err != nil {
		_ = c.object.Close()
		return nil, err
	}
	return c, nil
}

// openObject opens a range of an object; the caller says how it is decoded.
func (r *Repository) openObject(
	ctx context.Context, key string, part Range, want *snapshot.Snapshot,
) (*copyReader, error) {
	object, err := r.backend.Get(ctx, key, part)
	if err != nil {
		return nil, err
	}
	stored := NewStoredReader(object, want.StoredSize)
	return &copyReader{
		stored: stored, object: object, want: want,
		damaged: func(err error) error {
			if wrong := r.wrongLength(ctx, key, part, stored, want.StoredSize); wrong != nil {
				return wrong
			}
			return r.damaged(key, err)
		},
		where: fmt.Sprintf("read %s", r.info.URI(key)), backend: r.info.Name,
	}, nil
}

// wrongLength returns an error when the backend gave another number of bytes than it says that the object has, and the
// object has as many as it should: the copy is not damaged, the answer was wrong.
func (r *Repository) wrongLength(ctx context.Context, key string, part Range, got *StoredReader, want int64) error {
	// A range is shorter on purpose. Only an object that was read from its start to its end can contradict its size.
	if part != (Range{}) || !errors.Is(got.err, io.EOF) || got.n == want {
		return nil
	}
	o, err := r.backend.Stat(ctx, key)
	if err != nil || o.Size != want {
		return nil //nolint:nilerr // then the error of the copy stands
	}
	return r.gave(key, got.n, want)
}

// ShortAnswer returns an error when the backend gave another number of bytes of a document than it says that the object
// has: half of a document looks like a damaged or forged one, and is neither.
func (r *Repository) ShortAnswer(ctx context.Context, key string, got int) error {
	if o, err := r.backend.Stat(ctx, key); err == nil && o.Size != int64(got) {
		return r.gave(key, int64(got), o.Size)
	}
	return nil // a Stat that fails leaves the other error standing
}

// gave is the error of a backend that gave another number of bytes than it says that the object has.
func (r *Repository) gave(key string, got, has int64) error {
	return snapshot.ReasonBackendUnavailable.New("read %s", r.info.URI(key)).On(r.info.Name).
		Because(fmt.Errorf("it gave %d bytes of an object of which it says that it has %d", got, has)).
		Advise("look at the proxies and caches before the server, and at its log")
}

// damaged is the error of a copy that is not the snapshot's. No retry makes it better.
func (r *Repository) damaged(key string, cause error) error {
	return snapshot.ReasonChecksumMismatch.New("read %s", r.info.URI(key)).On(r.info.Name).Because(cause).Final().
		Advise("this copy is damaged; use another backend's or another snapshot")
}

// copyReader reads a copy and compares it with the snapshot. The bytes pass object, stored (hashed as they are stored),
// decoded (decrypted and decompressed) and trailer (hashed as etcd sent them).
type copyReader struct {
	object  io.Closer
	stored  *StoredReader // of object
	decoded io.ReadCloser // of stored
	trailer *Trailer      // nil when the database in it is not looked at
	want    *snapshot.Snapshot
	damaged func(cause error) error
	where   string
	backend string
	end     error // of the reading, once it has ended

	dbSize int64  // of the database that was read, once it has ended well
	dbSum  string // sha256 in hex
}

// decode returns the bytes that etcd sent of the object as it is stored.
func (c *copyReader) decode(ids age.Identities) (io.ReadCloser, error) {
	decrypted, err := c.decrypt(ids)
	if err != nil {
		return nil, err
	}
	decoded, err := decompress(decrypted, c.want.Compression)
	if err != nil {
		return nil, c.damaged(err)
	}
	return decoded, nil
}

// decrypt returns the object, decrypted if it is encrypted.
func (c *copyReader) decrypt(ids age.Identities) (io.Reader, error) {
	if !c.want.Encrypted() {
		return c.stored, nil
	}
	decrypted, err := ids.NewReader(c.stored)
	switch {
	case err == nil:
		return decrypted, nil
	case c.stored.Failed() != nil:
		return nil, c.stored.Failed() // the backend failed: the header says nothing
	case errors.Is(err, age.ErrNoIdentity) && !ids.Of(c.want.EncryptionRecipients):
		return nil, c.noIdentity(ids.Empty())
	default: // also when it is not encrypted for a recipient that its manifest names
		return nil, c.damaged(err)
	}
}

// noIdentity is the error that the identity is missing. It names the recipients, so that the operator can find the
// file.
func (c *copyReader) noIdentity(none bool) error {
	why := "none of the identities at hand is that of one of them"
	if none {
		why = "there is no identity at hand"
	}
	return snapshot.ReasonSnapshotSealed.
		New("%s: it is encrypted for %s, and %s", c.where, shortKeys(c.want.EncryptionRecipients), why).On(c.backend).
		Advise("give the file with the identity, the private key, of one of these recipients: " +
			"--identity of restore and verify --from, encryption.identity_files of the service")
}

// shortKeys names public keys for a person.
func shortKeys(keys []string) string {
	var short []string
	for _, k := range keys {
		short = append(short, age.Short(k))
	}
	return strings.Join(short, ", ")
}

// decompress returns the content of a compressed object. It is the only place that knows the decoders.
func decompress(r io.Reader, c snapshot.Compression) (io.ReadCloser, error) {
	switch c {
	case snapshot.CompressionNone:
		return io.NopCloser(r), nil
	case snapshot.CompressionZstd:
		return seekable.NewReader(r)
	case snapshot.CompressionZip:
		return io.NopCloser(zip.NewReader(r)), nil
	default:
		return nil, fmt.Errorf("its compression %s is not known", c)
	}
}

// Read implements [io.Reader].
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
		c.end = c.compare()
	default:
		c.end = c.cause(err)
	}
	return n, c.end
}

// WriteTo implements [io.WriterTo]: it writes the bytes that Read would give, and hashes them at the same time. It
// returns nil when a good copy was read to its end. An error of w is returned as it is, and ends the reading.
func (c *copyReader) WriteTo(w io.Writer) (int64, error) {
	if c.end != nil {
		return 0, orEnd(c.end)
	}
	hashing := newHashingWriter(c.trailer, w)
	buf, giveBack := Borrow()
	defer giveBack()
	n, err := io.CopyBuffer(hashing, c.decoded, buf)
	hashing.stop()
	switch {
	case hashing.err != nil:
		c.end = hashing.err
	case err == nil:
		c.end = c.compare()
	default:
		c.end = c.cause(err)
	}
	return n, orEnd(c.end)
}

// orEnd returns no error for the end of the bytes.
func orEnd(err error) error {
	if err == io.EOF { //nolint:errorlint // a wrapped one is not the end
		return nil
	}
	return err
}

// cause returns where an error of the decoder comes from: the backend's own error says more than the decoder's.
func (c *copyReader) cause(err error) error {
	if failed := c.stored.Failed(); failed != nil {
		return failed
	}
	return c.damaged(err)
}

// compare compares the bytes that were read with the snapshot, and returns io.EOF when they are its bytes.
func (c *copyReader) compare() error {
	if _, err := io.Copy(io.Discard, c.stored); err != nil {
		return err // bytes behind the decoder's end count, too
	}
	// The stored bytes are compared first. When they differ, nothing that was decoded from them counts.
	stored := c.stored.SHA256()
	switch w := c.want; {
	case w.StoredSize > 0 && c.stored.n != w.StoredSize:
		return c.damaged(fmt.Errorf("it has %d bytes instead of %d", c.stored.n, w.StoredSize))
	case w.StoredSHA256 != "" && stored != w.StoredSHA256:
		return c.damaged(fmt.Errorf("its sha256 is %s instead of %s", stored, w.StoredSHA256))
	case c.trailer == nil:
		return io.EOF
	default:
		return c.compareDatabase()
	}
}

// compareDatabase compares the database with the snapshot, and returns io.EOF when it is its database. The checksum of
// the object alone would not show a save that stored damaged bytes.
func (c *copyReader) compareDatabase() error {
	size, sum, err := c.trailer.Verify()
	c.dbSize, c.dbSum = size, sum
	switch w := c.want; {
	case err != nil:
		return c.damaged(withoutHint(err))
	case w.DBSize > 0 && size != w.DBSize:
		return c.damaged(fmt.Errorf("the database in it has %d bytes instead of %d", size, w.DBSize))
	case w.SHA256 != "" && sum != w.SHA256:
		return c.damaged(fmt.Errorf("the sha256 of the database in it is %s instead of %s", sum, w.SHA256))
	}
	return io.EOF
}

// withoutHint returns an error without its hint, which speaks of etcd's stream and not of a copy.
func withoutHint(err error) error {
	if e, ok := errors.AsType[*snapshot.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

// Close ends the reading at any place.
func (c *copyReader) Close() error { return errors.Join(c.decoded.Close(), c.object.Close()) }
