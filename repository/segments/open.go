package segments

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Reader reads the entries of a segment, and compares it with its manifest.
type Reader struct {
	*segment.Reader
	segments *Segments
	manifest *Manifest
	object   io.Closer
	stored   *repository.StoredReader
	end      error

	// short returns the error of a backend that gave less than all of the object; nil when the object ends there, and for
	// bytes that no backend gives.
	short func() error
}

// Open opens a segment. Size and checksum of the stored object, and the header in it, are compared with the manifest:
// only a reader that has got io.EOF has read a good segment. A segment that differs is an error with
// ReasonChecksumMismatch, one without an identity for it has ReasonSnapshotSealed. The caller closes the reader.
func (s *Segments) Open(ctx context.Context, m *Manifest) (*Reader, error) {
	object, err := s.get(ctx, m)
	if err != nil {
		return nil, err
	}
	r := s.reader(m, object)
	r.short = func() error { return s.short(ctx, m, r.stored) }
	return r.opened()
}

// Decode opens a segment as [Segments.Open] does, from its bytes as they are stored. Closing the reader closes them.
func (s *Segments) Decode(m *Manifest, object io.ReadCloser) (*Reader, error) {
	return s.reader(m, object).opened()
}

func (s *Segments) reader(m *Manifest, object io.ReadCloser) *Reader {
	return &Reader{
		segments: s, manifest: m, object: object, stored: repository.NewStoredReader(object, m.StoredSize),
		short: func() error { return nil },
	}
}

// opened opens the reader, or closes the object.
func (r *Reader) opened() (*Reader, error) {
	if err := r.open(); err != nil {
		_ = r.object.Close()
		return nil, err
	}
	return r, nil
}

// Fetch writes a segment as it is stored. When it returns nil, size and checksum are those of the manifest. An error of
// w is returned as it is.
func (s *Segments) Fetch(ctx context.Context, m *Manifest, w io.Writer) error {
	// The bytes stay as they are stored. The caller reads them twice from its disk: once to check, once to use.
	object, err := s.get(ctx, m)
	if err != nil {
		return err
	}
	defer func() { _ = object.Close() }()
	stored := repository.NewStoredReader(object, m.StoredSize)
	if _, err := io.Copy(w, stored); err != nil {
		return err
	}
	if why := m.differs(stored); why != nil {
		return s.differs(ctx, m, stored, why)
	}
	return nil
}

// get begins to read a segment as it is stored. The error of one whose data is not there names its revisions.
func (s *Segments) get(ctx context.Context, m *Manifest) (io.ReadCloser, error) {
	object, err := s.backend.Get(ctx, s.dataKey(m.Ref(), m.Encrypted()), repository.Range{})
	if snapshot.IsNotFound(err) {
		return nil, snapshot.ReasonObjectNotFound.New("read the segment %s, revisions %d to %d",
			s.URI(m.Ref()), m.First, m.Last).
			On(s.Name()).Because(err).
			Advise("its data is missing; another backend or another level may have these revisions")
	}
	return object, err
}

// differs returns the error of an object that is not that of the manifest. One that the backend says is longer than
// its answer was is not damaged.
func (s *Segments) differs(ctx context.Context, m *Manifest, stored *repository.StoredReader, why error) error {
	if short := s.short(ctx, m, stored); short != nil {
		return short
	}
	return s.damaged(m.Ref(), why)
}

// short returns the error of a backend whose answer was shorter than the object is.
func (s *Segments) short(ctx context.Context, m *Manifest, stored *repository.StoredReader) error {
	if stored.Size() >= m.StoredSize {
		return nil
	}
	return s.repo.ShortAnswer(ctx, s.dataKey(m.Ref(), m.Encrypted()), int(stored.Size()))
}

func (r *Reader) open() error {
	s, m := r.segments, r.manifest
	var in io.Reader = r.stored
	if m.Encrypted() {
		opened, err := s.identities.NewReader(r.stored)
		switch {
		case err == nil:
			in = opened
		case r.stored.Failed() == nil && errors.Is(err, age.ErrNoIdentity) && s.Readable(m) != nil:
			return s.Readable(m)
		default:
			return r.cause(err)
		}
	}
	inner, err := segment.NewReader(in)
	if err != nil {
		return r.cause(err)
	}
	if h := inner.Header(); !h.Equal(&m.Header) {
		inner.Close()
		return r.cause(errors.New("the header in it is not that of its manifest"))
	}
	r.Reader = inner
	return nil
}

// Next returns the next entry; io.EOF after the last one when the segment is good.
func (r *Reader) Next() (segment.Entry, error) {
	if r.end != nil {
		return nil, r.end
	}
	e, err := r.Reader.Next()
	switch {
	// A few bytes can decompress to terabytes. The manifest says where to stop.
	case err == nil && r.Size() > r.manifest.Size:
		err = fmt.Errorf("it has more than the %d bytes of content that its manifest says", r.manifest.Size)
		r.end = r.segments.damaged(r.manifest.Ref(), err)
	case err == io.EOF: //nolint:errorlint // a wrapped one is not the end
		r.end = r.compare()
	case err != nil:
		r.end = r.cause(err)
	}
	if r.end != nil {
		return nil, r.end
	}
	return e, nil
}

// Each calls take with each entry that is left. It ends with the first error, of the segment or of take.
func (r *Reader) Each(take func(segment.Entry) error) error {
	for {
		e, err := r.Next()
		switch {
		case err == io.EOF: //nolint:errorlint // a wrapped one is not the end
			return nil
		case err != nil:
			return err
		}
		if err := take(e); err != nil {
			return err
		}
	}
}

// Close ends the reading at any place.
func (r *Reader) Close() error {
	r.Reader.Close()
	return r.object.Close()
}

// compare compares the object with the manifest, and returns io.EOF when it is that of the manifest.
func (r *Reader) compare() error {
	// Bytes behind the last frame are part of the object, and count for its checksum.
	if _, err := io.Copy(io.Discard, r.stored); err != nil {
		return err
	}
	m := r.manifest
	why := m.differs(r.stored)
	if why == nil && r.Size() != m.Size {
		why = fmt.Errorf("its content has %d bytes instead of %d", r.Size(), m.Size)
	}
	if why != nil {
		return r.cause(why)
	}
	return io.EOF
}

// cause returns where an error of the decoder comes from. A backend that broke off, or gave only a part, looks like
// damage to the decoder: its own error says more.
func (r *Reader) cause(err error) error {
	_, _ = io.Copy(io.Discard, r.stored) // how much it gave is known at the end
	if failed := r.stored.Failed(); failed != nil {
		return failed
	}
	if short := r.short(); short != nil {
		return short
	}
	return r.segments.damaged(r.manifest.Ref(), err)
}

// Readable returns an error with ReasonSnapshotSealed when no identity for a segment is at hand. It reads nothing.
func (s *Segments) Readable(m *Manifest) error {
	if !m.Encrypted() || s.identities.Of(m.Recipients) {
		return nil
	}
	short := make([]string, 0, len(m.Recipients))
	for _, k := range m.Recipients {
		short = append(short, age.Short(k))
	}
	return snapshot.ReasonSnapshotSealed.
		New("read the segment %s, revisions %d to %d: it is encrypted for %s, and no identity of one of them is at hand",
			s.URI(m.Ref()), m.First, m.Last, snapshot.Join(short)).On(s.Name()).
		Advise("give the file with the identity, the private key, of one of these recipients: " +
			"--identity of restore, encryption.identity_files of the service")
}

// differs returns why an object, which was read to its end, is not that of the manifest.
func (m *Manifest) differs(stored *repository.StoredReader) error {
	switch sum := stored.SHA256(); {
	case stored.Size() != m.StoredSize:
		return fmt.Errorf("it has %d bytes instead of %d", stored.Size(), m.StoredSize)
	case sum != m.StoredSHA256:
		return fmt.Errorf("its sha256 is %s instead of %s", sum, m.StoredSHA256)
	}
	return nil
}
