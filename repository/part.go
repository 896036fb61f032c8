package repository

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/codec/seekable"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Part is the rest of a copy from an offset on.
type Part struct {
	Decoded    bool           // the database as etcd sent it, or else the bytes as they are stored
	Offset     int64          // of the first byte that is wanted
	Size       int64          // of the whole
	Identities age.Identities // for a decoded part of an encrypted copy
}

// ErrNotThere: the copy is not where the catalog has it. The caller finds out whether it was deleted meanwhile.
var ErrNotThere = errors.New("it is not there")

// OpenPart opens a part of a copy and makes sure that its first byte can be read. From offset 0 a Read returns io.EOF
// only when all checksums were right; a copy that is damaged is an error with ReasonChecksumMismatch. From a later
// offset only the number of bytes is compared. The caller closes the reader.
func (r *Repository) OpenPart(ctx context.Context, rec *snapshot.Record, part Part) (io.ReadCloser, error) {
	if err := r.OpenVerified(ctx, false); err != nil {
		return nil, err
	}
	key := r.dataKey(rec)
	in, err := r.openPart(ctx, key, rec, part)
	if err != nil {
		return nil, r.missingCopy(key, err)
	}
	// A size that is wrong is an error at the end, or at once when there is nothing: no download is cut off silently.
	damaged := func(err error) error { return r.damaged(key, err) }
	exact := &exactReader{r: in, left: part.Size - part.Offset, damaged: damaged}
	// One byte is read before the part is given out. As long as the caller has none, another copy can be tried.
	buffered := bufio.NewReaderSize(exact, 64<<10)
	if _, err := buffered.Peek(1); err != nil && !errors.Is(err, io.EOF) {
		_ = in.Close()
		return nil, err
	}
	return &partReader{buffered: buffered, in: in}, nil
}

// openPart opens the bytes from the offset on, without comparing how many there are.
func (r *Repository) openPart(ctx context.Context, key string, rec *snapshot.Record, part Part) (io.ReadCloser, error) {
	switch {
	case part.Decoded:
		return r.openDecodedPart(ctx, key, rec, part)
	case part.Offset > 0:
		return r.backend.Get(ctx, key, Range{Offset: part.Offset})
	}
	c, err := r.openStored(ctx, key, &rec.Snapshot)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// openDecodedPart opens the database in a copy from an offset on.
func (r *Repository) openDecodedPart(
	ctx context.Context, key string, rec *snapshot.Record, part Part,
) (io.ReadCloser, error) {
	if part.Offset > 0 && !rec.Encrypted() {
		in, err := r.seekDecoded(ctx, key, &rec.Snapshot, part.Offset)
		if in != nil || err != nil {
			return in, err
		}
	}
	var ids age.Identities // without one of a recipient, the error says that there is none
	if part.Identities.Of(rec.EncryptionRecipients) {
		ids = part.Identities
	}
	c, err := r.openDecoded(ctx, key, &rec.Snapshot, NewTrailer(), ids)
	if err != nil {
		return nil, err
	}
	if err := discard(c, part.Offset); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// seekDecoded opens the database in a copy that is not encrypted from an offset on, without reading the bytes before
// it; nil when the copy is in a format that must be read from its start. A download that was interrupted near its end
// goes on there, instead of fetching gigabytes again.
func (r *Repository) seekDecoded(
	ctx context.Context, key string, s *snapshot.Snapshot, offset int64,
) (io.ReadCloser, error) {
	switch s.Compression {
	case snapshot.CompressionNone:
		return r.backend.Get(ctx, key, Range{Offset: offset})
	case snapshot.CompressionZstd:
	default:
		return nil, nil //nolint:nilnil // the caller reads it from its start
	}
	frames, err := seekable.ReadTable(&objectAt{ctx, r.backend, key}, s.StoredSize)
	switch {
	case errors.Is(err, seekable.ErrNoTable):
		return nil, nil //nolint:nilnil // another program's zstd wrote it
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, r.damaged(key, errors.New("it is shorter than it should be"))
	case err != nil:
		return nil, err
	}
	// Frames stand alone: decoding begins with the one in which the offset is.
	for _, f := range frames {
		if offset < f.DecodedOffset+f.DecompressedSize {
			return r.openFrames(ctx, key, f, offset-f.DecodedOffset)
		}
	}
	return io.NopCloser(eof{}), nil // the offset is the end
}

// openFrames decompresses from a frame on, and discards its first bytes.
func (r *Repository) openFrames(ctx context.Context, key string, f seekable.Frame, skip int64) (io.ReadCloser, error) {
	object, err := r.backend.Get(ctx, key, Range{Offset: f.Offset})
	if err != nil {
		return nil, err
	}
	decoded, err := seekable.NewReader(object)
	if err != nil {
		return nil, errors.Join(err, object.Close())
	}
	in := &frameReader{decoded: decoded, object: object, damaged: func(err error) error { return r.damaged(key, err) }}
	if err := discard(in, skip); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// missingCopy returns the error of a copy that is not where the catalog has it; other errors as they are. It has a
// reason of its own, because a caller asked for a snapshot that exists: other backends may still hold it.
func (r *Repository) missingCopy(key string, err error) error {
	if !snapshot.IsNotFound(err) {
		return err
	}
	return snapshot.ReasonCopyMissing.New("read %s", r.info.URI(key)).On(r.info.Name).Because(ErrNotThere).Final().
		Advise("somebody removed it; reconcile takes note of that, and with --repair copies it from another backend")
}

// partReader gives the bytes of a part, of which the first ones were read already.
type partReader struct {
	buffered *bufio.Reader
	in       io.Closer
}

// Read implements [io.Reader].
func (p *partReader) Read(b []byte) (int, error) { return p.buffered.Read(b) }

// Close ends the reading at any place.
func (p *partReader) Close() error { return p.in.Close() }

// exactReader passes on a number of bytes, and fails when there are fewer or more.
type exactReader struct {
	r       io.Reader
	left    int64
	damaged func(error) error
}

// Read implements [io.Reader].
func (e *exactReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.left -= int64(n) // below zero the object is longer than its record says
	switch {
	case e.left < 0:
		return 0, e.damaged(errors.New("it is longer than it should be"))
	case err == io.EOF && e.left > 0: // a wrapped one is not the end
		return n, e.damaged(fmt.Errorf("its last %d bytes are missing", e.left))
	}
	return n, err
}

// frameReader reads frames; their own checksums are compared, and the checksum of the whole cannot be. The client that
// asked for this part has the bytes before it, and compares the checksum of all of them itself.
type frameReader struct {
	decoded io.ReadCloser
	object  io.Closer
	damaged func(error) error
}

// Read implements [io.Reader].
func (f *frameReader) Read(p []byte) (int, error) {
	n, err := f.decoded.Read(p)
	_, known := errors.AsType[*snapshot.Error](err) // of the backend
	if err != nil && err != io.EOF && !known {      //nolint:errorlint // wrapped, it is not the end
		err = f.damaged(err)
	}
	return n, err
}

// Close ends the reading at any place.
func (f *frameReader) Close() error { return errors.Join(f.decoded.Close(), f.object.Close()) }

// objectAt reads an object at any place.
type objectAt struct {
	ctx     context.Context //nolint:containedctx // io.ReaderAt has no other way to be cancelled
	backend Backend
	key     string
}

// ReadAt implements [io.ReaderAt].
func (o *objectAt) ReadAt(p []byte, off int64) (n int, err error) {
	if len(p) == 0 {
		return 0, nil // a range without a length is the rest of the object
	}
	in, err := o.backend.Get(o.ctx, o.key, Range{Offset: off, Length: int64(len(p))})
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }()
	return io.ReadFull(in, p)
}

// eof is a reader without any bytes.
type eof struct{}

// Read implements [io.Reader].
func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// discard reads so many bytes and forgets them.
func discard(r io.Reader, n int64) error {
	_, err := Copy(io.Discard, io.LimitReader(r, n))
	return err
}
