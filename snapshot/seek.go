package snapshot

import (
	"context"
	"errors"
	"io"

	"github.com/snapshotd/snapshotd/internal/codec/seekable"
)

// seekDecoded opens the database in a copy that is not sealed from an offset on, without reading what is before it; nil when
// the copy is not in a format that can do that.
func seekDecoded(ctx context.Context, b Backend, key string, s *Snapshot, offset int64) (io.ReadCloser, error) {
	switch {
	case s.Compression == CompressionNone:
		return b.GetRange(ctx, key, offset, -1)
	case s.Compression != CompressionZstd:
		return nil, nil // the caller reads it from its start
	}
	frames, err := seekable.ReadTable(&objectAt{ctx, b, key}, s.StoredSize)
	if errors.Is(err, seekable.ErrNoTable) {
		return nil, nil // another zstd wrote it
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, damagedCopy(b, key, errors.New("it is shorter than it should be"))
	}
	if err != nil {
		return nil, err
	}
	for _, f := range frames {
		if offset < f.DecodedOffset+f.DecompressedSize {
			return openFrames(ctx, b, key, f, offset-f.DecodedOffset)
		}
	}
	return io.NopCloser(eof{}), nil
}

// openFrames decompresses from a frame on, and discards its first bytes.
func openFrames(ctx context.Context, b Backend, key string, f seekable.Frame, skip int64) (io.ReadCloser, error) {
	object, err := b.GetRange(ctx, key, f.Offset, -1)
	if err != nil {
		return nil, err
	}
	decoded, err := seekable.NewReader(object)
	if err != nil {
		return nil, errors.Join(err, object.Close())
	}
	r := &frameReader{decoded: decoded, object: object, damaged: func(err error) error { return damagedCopy(b, key, err) }}
	if err := discard(r, skip); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// frameReader reads frames; their own checksums are compared, and that of the whole cannot be.
type frameReader struct {
	decoded io.ReadCloser
	object  io.Closer
	damaged func(error) error
}

func (f *frameReader) Read(p []byte) (int, error) {
	n, err := f.decoded.Read(p)
	if _, ours := errors.AsType[*Error](err); err != nil && err != io.EOF && !ours { //nolint:errorlint // wrapped, it is not the end
		err = f.damaged(err)
	}
	return n, err
}

func (f *frameReader) Close() error { return errors.Join(f.decoded.Close(), f.object.Close()) }

// objectAt reads an object at any place.
type objectAt struct {
	ctx context.Context //nolint:containedctx // io.ReaderAt has no other way to be cancelled
	b   Backend
	key string
}

func (o *objectAt) ReadAt(p []byte, off int64) (n int, err error) {
	r, err := o.b.GetRange(o.ctx, o.key, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadFull(r, p)
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
