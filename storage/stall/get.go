package stall

import (
	"context"
	"io"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

func (g *guarded) Get(ctx context.Context, key string, x driver.Extent) (io.ReadCloser, error) {
	return g.open(ctx, func() (io.ReadCloser, error) { return g.Store.Get(ctx, key, x) })
}

func (g *guarded) open(ctx context.Context, open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	r, err := run(ctx, g, closeLate, func(context.Context, *call) (io.ReadCloser, error) {
		return open() // it is read after this call
	})
	if err != nil {
		return nil, err
	}
	return &reader{g: g, ctx: ctx, r: r}, nil
}

func closeLate(r io.ReadCloser) { _ = r.Close() }

// firstBuffer is how much is read at first: most objects are documents of a few hundred bytes.
const firstBuffer = 4 << 10

// reader reads an object into a buffer of its own: a read that was given up may still write to it.
type reader struct {
	g   *guarded
	ctx context.Context //nolint:containedctx // the object is read under the context that opened it
	r   io.ReadCloser

	buf  []byte
	rest []byte // of buf: read and not taken yet
	n    int    // bytes read
	err  error
}

func (r *reader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 && r.err == nil {
		r.fill()
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	if len(r.rest) > 0 {
		return n, nil
	}
	return n, r.err
}

func (r *reader) fill() {
	switch {
	case r.buf == nil:
		r.buf = make([]byte, firstBuffer)
	case len(r.buf) == firstBuffer && r.n >= firstBuffer:
		r.buf = make([]byte, repository.CopyBuffer)
	}
	buf, src := r.buf, r.r
	read, err := run(r.ctx, r.g, nil, func(context.Context, *call) (result[int], error) {
		n, err := src.Read(buf)
		return result[int]{n, err}, nil
	})
	if err == nil {
		r.rest, r.err = buf[:read.value], read.err
		r.n += read.value
		return
	}
	r.rest, r.err, r.r = nil, err, nil // closing it would hang as well
}

func (r *reader) Close() error {
	if r.r == nil {
		return nil
	}
	return r.r.Close()
}
