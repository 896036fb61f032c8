package segments

import (
	"context"
	"errors"
	"io"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// CopyFrom stores a segment of another backend: the bytes as they are stored there, and the same manifest, whose
// signature stays good. m is its manifest there. The bytes are compared with it while they pass, and before that,
// where they can be decrypted, all entries with the header; a segment that differs is not stored, and is an error of
// the other backend, as of [Segments.Open].
//
// One that is here stays, or is an error, as of [Segments.Put]. With replace, the caller has found that it is not good,
// and it is written over.
func (s *Segments) CopyFrom(ctx context.Context, from *Segments, m *Manifest, replace bool) error {
	if _, err := s.repo.Open(ctx, repository.OpenOptions{Create: true}); err != nil {
		return err
	}
	if from.Readable(m) == nil {
		if err := from.Check(ctx, m); err != nil {
			return err
		}
	}
	err := s.store(ctx, m, replace, func(key string, ifAbsent bool) error {
		in, err := from.openStored(ctx, m)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
		opts := repository.PutOptions{ContentType: repository.DataContentType, SizeHint: m.StoredSize, IfAbsent: ifAbsent}
		return s.backend.Put(ctx, key, in, opts)
	})
	if err != nil || !replace {
		return err
	}
	// The segment that was written over may have been encrypted when this one is not, or the other way round. Nothing is
	// deleted for nothing: the backend may refuse that.
	other := s.dataKey(m.Ref(), !m.Encrypted())
	if _, err := s.backend.Stat(ctx, other); snapshot.IsNotFound(err) {
		return nil
	}
	if err := s.backend.Delete(ctx, other); !IsRefused(err) {
		return err
	}
	return nil // the manifest says which one it is
}

// Check reads a segment back: all entries where it can be decrypted, else the bytes as they are stored. A nil says that
// they are those of the manifest. Errors are those of [Segments.Open].
func (s *Segments) Check(ctx context.Context, m *Manifest) error {
	if s.Readable(m) != nil {
		return s.Fetch(ctx, m, io.Discard)
	}
	r, err := s.Open(ctx, m)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	return r.Each(func(segment.Entry) error { return nil })
}

// storedObject is a segment as it is stored. It gives io.EOF only when size and checksum were right, so that no backend
// stores anything else.
type storedObject struct {
	*repository.StoredReader
	ctx      context.Context //nolint:containedctx // an io.Reader has no other way to ask the backend at its end
	segments *Segments
	manifest *Manifest
	object   io.Closer
}

// openStored opens a segment as it is stored. The caller closes it.
func (s *Segments) openStored(ctx context.Context, m *Manifest) (*storedObject, error) {
	object, err := s.backend.Get(ctx, s.dataKey(m.Ref(), m.Encrypted()), repository.Range{})
	if err != nil {
		return nil, err
	}
	return &storedObject{repository.NewStoredReader(object, m.StoredSize), ctx, s, m, object}, nil
}

// Read implements [io.Reader].
func (o *storedObject) Read(p []byte) (int, error) {
	n, err := o.StoredReader.Read(p)
	if errors.Is(err, io.EOF) {
		if why := o.manifest.differs(o.StoredReader); why != nil {
			err = o.segments.differs(o.ctx, o.manifest, o.StoredReader, why)
		}
	}
	return n, err
}

// Close implements [io.Closer].
func (o *storedObject) Close() error { return o.object.Close() }
