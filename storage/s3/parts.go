package s3

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/storage/driver"
	"github.com/snapshotd/snapshotd/storage/stall"
)

const (
	// readParts is how many parts of an object are held at most: one that is read, the others on their way or here
	// already.
	readParts = 3
	// partTries is how often a part is asked for whose connection broke; each goes on where the one before it broke
	// off.
	partTries = 4
	// partPause is how long the first of them waits, about; each further one waits twice as long.
	partPause = 100 * time.Millisecond
)

// openPart asks for a part of an object, pinned to what the object was at first.
type openPart func(ctx context.Context, x driver.Extent) (io.ReadCloser, error)

// partReader reads a large object by several requests at once and gives its bytes in order. Each part is read whole as
// soon as it comes, so that no connection waits for whoever reads.
type partReader struct {
	ctx    context.Context //nolint:containedctx // the object is read under the context that opened it
	cancel context.CancelFunc
	open   openPart
	next   int64 // where the part begins that is asked for next
	end    int64

	parts   []*part // under way, in order
	buffers [][]byte
	current []byte
	rest    []byte // of current: not taken yet
	err     error
	running sync.WaitGroup
}

// part is one part under way; buf and err are there when done is closed.
type part struct {
	at   int64
	buf  []byte
	err  error
	done chan struct{}
}

// newPartReader reads from at to end. body has the first part, and may have more; it ends with ctx, which cancel ends.
func newPartReader(ctx context.Context, cancel context.CancelFunc, body io.ReadCloser, at, end int64, open openPart) *partReader {
	r := &partReader{ctx: ctx, cancel: cancel, open: open, next: at, end: end}
	r.start(body)
	r.fill()
	return r
}

// fill asks for parts until there are as many as may be.
func (r *partReader) fill() {
	held := 0
	if r.current != nil {
		held = 1
	}
	for r.next < r.end && len(r.parts)+held < readParts {
		r.start(nil)
	}
}

// start reads the next part, from body if there is one.
func (r *partReader) start(body io.ReadCloser) {
	size := min(readPart, r.end-r.next)
	var buf []byte
	if n := len(r.buffers); n > 0 {
		buf, r.buffers = r.buffers[n-1], r.buffers[:n-1]
	} else {
		buf = make([]byte, size)
	}
	p := &part{at: r.next, buf: buf[:size], done: make(chan struct{})}
	r.next += size
	r.parts = append(r.parts, p)
	r.running.Go(func() {
		defer close(p.done)
		p.err = r.fetch(p, body)
	})
}

// fetch reads a part, in several tries when connections break. What has come of it is right, as the object is pinned,
// and is not asked for again.
func (r *partReader) fetch(p *part, body io.ReadCloser) error {
	missing := p.buf
	for try := 1; ; try++ {
		n, err := r.read(missing, p.at+int64(len(p.buf)-len(missing)), body)
		if missing = missing[n:]; err == nil || try == partTries || !mayPass(err) {
			return err
		}
		if err := r.pause(try); err != nil {
			return err
		}
		body = nil
	}
}

// read fills b with what is at an offset, from body if there is one.
func (r *partReader) read(b []byte, at int64, body io.ReadCloser) (n int, err error) {
	if body == nil {
		if body, err = r.open(r.ctx, driver.Extent{Offset: at, Length: int64(len(b))}); err != nil {
			return 0, err
		}
	}
	n, err = io.ReadFull(body, b)
	_ = body.Close()   // there may be more in it than the part
	if err == io.EOF { //nolint:errorlint // wrapped, it is something else
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// mayPass reports whether an error is one that another try may not have: what stalled had its time, and what the server
// has said for good stays.
func mayPass(err error) bool {
	_, stalled := errors.AsType[*stall.Error](err)
	_, replaced := errors.AsType[*replacedError](err)
	_, status := apiError(err)
	return !stalled && !replaced && (status < http.StatusMultipleChoices || status >= http.StatusInternalServerError)
}

// pause waits before another try.
func (r *partReader) pause(try int) error {
	d := partPause << (try - 1)
	t := time.NewTimer(d/2 + rand.N(d)) //nolint:gosec // it is there to spread requests
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}

func (r *partReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 && r.err == nil {
		r.err = r.advance()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// advance makes the next part the current one.
func (r *partReader) advance() error {
	if r.current != nil {
		r.buffers, r.current = append(r.buffers, r.current[:cap(r.current)]), nil
	}
	r.fill()
	if len(r.parts) == 0 {
		return io.EOF
	}
	p := r.parts[0]
	r.parts = r.parts[1:]
	<-p.done // it ends: nothing that stalls goes on
	if p.err != nil {
		r.cancel()
		return p.err
	}
	r.current, r.rest = p.buf, p.buf
	return nil
}

// Close ends what is under way and waits for it.
func (r *partReader) Close() error {
	r.cancel()
	r.running.Wait()
	return nil
}
