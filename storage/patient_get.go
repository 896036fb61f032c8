package storage

import (
	"context"
	"io"
)

func (p *patientStore) get(ctx context.Context, key string, x extent) (io.ReadCloser, error) {
	return p.open(ctx, func() (io.ReadCloser, error) { return p.store.get(ctx, key, x) })
}

func (p *patientStore) open(ctx context.Context, open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	r, err := patiently(ctx, p, closeLate, func(context.Context, *call) (io.ReadCloser, error) {
		return open() // it is read after this call
	})
	if err != nil {
		return nil, err
	}
	return &patientReader{p: p, ctx: ctx, r: r}, nil
}

func closeLate(r io.ReadCloser) { _ = r.Close() }

// patientReader reads an object. What a read that was given up writes to is not the caller's.
type patientReader struct {
	p   *patientStore
	ctx context.Context //nolint:containedctx // the object is read under the context that opened it
	r   io.ReadCloser

	buf  []byte
	rest []byte // of buf: read and not taken yet
	err  error
}

func (r *patientReader) Read(b []byte) (int, error) {
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

func (r *patientReader) fill() {
	if r.buf == nil {
		r.buf = make([]byte, copyBuffer)
	}
	buf, src := r.buf, r.r
	read, err := patiently(r.ctx, r.p, nil, func(context.Context, *call) (result[int], error) {
		n, err := src.Read(buf)
		return result[int]{n, err}, nil
	})
	if err == nil {
		r.rest, r.err = buf[:read.value], read.err
		return
	}
	r.rest, r.err, r.r = nil, err, nil // what hangs cannot be closed either
}

func (r *patientReader) Close() error {
	if r.r == nil {
		return nil
	}
	return r.r.Close()
}
