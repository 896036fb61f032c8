package storage

import (
	"context"
	"io"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// syncRate is what even a slow disk makes durable in a second: the last sync of a file gets a second more for so many bytes.
const syncRate = 10 << 20

func (p *patientStore) put(ctx context.Context, key string, r *source, opts snapshot.PutOptions) error {
	// Only this call may look at r afterwards, and only when it has come back.
	broke, err := patiently(ctx, p, nil, func(ctx context.Context, c *call) (error, error) {
		src := &source{ctx: ctx, r: &watchedReader{r: r.r, call: c}}
		err := p.store.put(ctx, key, src, opts)
		return src.err, err
	})
	r.err = broke
	return err
}

// watchedReader stops the clock while the caller's reader is waited for.
type watchedReader struct {
	r    io.Reader
	call *call
	n    int64
}

func (w *watchedReader) Read(b []byte) (int, error) {
	w.call.rest()
	n, err := w.r.Read(b)
	w.n += int64(n)
	more := time.Duration(0)
	if err != nil {
		more = time.Duration(w.n/syncRate) * time.Second
	}
	w.call.beat(more)
	return n, err
}
