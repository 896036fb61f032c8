package stall

import (
	"context"
	"io"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// syncRate is how many bytes even a slow disk makes durable in a second: the last sync of a file gets a second more for
// each of these.
const syncRate = 10 << 20

func (g *guarded) Put(ctx context.Context, key string, r *driver.Source, opts repository.PutOptions) error {
	_, err := run(ctx, g, nil, func(ctx context.Context, c *call) (struct{}, error) {
		src := driver.NewSource(ctx, &watchedReader{r: r, call: c})
		return struct{}{}, g.Store.Put(ctx, key, src, opts)
	})
	return err
}

// watchedReader stops the timer while the caller's reader is waited for.
type watchedReader struct {
	r    io.Reader
	call *call
	n    int64
}

func (w *watchedReader) Read(b []byte) (int, error) {
	w.call.pause()
	n, err := w.r.Read(b)
	w.n += int64(n)
	more := time.Duration(0)
	if err != nil {
		more = time.Duration(w.n/syncRate) * time.Second
	}
	w.call.moved(more)
	return n, err
}
