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
)

const (
	// readParts is how many parts of an object are held at most: one that is read, the others on their way or here
	// already.
	readParts = 3
	// partTries is how often a part is asked for whose connection broke. Each try goes on where the one before it
	// ended.
	partTries = 4
	// partPause is how long the first of them waits, about; each further one waits twice as long.
	partPause = 100 * time.Millisecond
)

// openPart asks for a part of an object, or all of it, pinned to the object whose first part was read.
type openPart func(ctx context.Context, x driver.Extent) (io.ReadCloser, error)

// partReader reads a large object by several requests at once and gives its bytes in order. Each part is read whole as
// soon as it comes, so that no connection waits for the caller. A server that turns out to have no parts is asked for
// the whole object once more, and the rest is read from that.
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
	tail    *tail  // in place of the parts; may be nil
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
func newPartReader(
	ctx context.Context, cancel context.CancelFunc, body io.ReadCloser, at, end int64, open openPart,
) *partReader {
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

// fetch reads a part, in several tries when connections break. Bytes that have come are not asked for again: the object
// is pinned.
func (r *partReader) fetch(p *part, body io.ReadCloser) error {
	missing := p.buf
	for try := 1; ; try++ {
		n, err := r.read(missing, p.at+int64(len(p.buf)-len(missing)), body)
		if missing = missing[n:]; err == nil || try == partTries || !mayPass(err) {
			return err
		}
		d := partPause << (try - 1)
		if err := pause(r.ctx, d/2+rand.N(d)); err != nil { //nolint:gosec // it is there to spread requests
			return err
		}
		body = nil
	}
}

// read fills b with the bytes at an offset, from body if there is one.
func (r *partReader) read(b []byte, at int64, body io.ReadCloser) (n int, err error) {
	if body == nil {
		if body, err = r.open(r.ctx, driver.Extent{Offset: at, Length: int64(len(b))}); err != nil {
			return 0, err
		}
	}
	for n < len(b) && err == nil {
		var more int
		more, err = body.Read(b[n:])
		n += more
	}
	_ = body.Close() // there may be more in it than the part
	switch {
	case n == len(b):
		return n, nil
	case err == io.EOF: //nolint:errorlint // wrapped, it is something else
		// No connection broke: what the server has given instead of the rest may be anything.
		return n, badAnswer("GetObject: the server gives fewer bytes of a part than it said")
	}
	return n, err
}

// mayPass reports whether another try may end without an error: a request that stalled had its time, and a
// refusal stays.
func mayPass(err error) bool {
	_, replaced := errors.AsType[*replacedError](err)
	_, noRange := errors.AsType[*noRangeError](err)
	_, invalid := errors.AsType[*answerError](err)
	_, status := apiError(err)
	final := replaced || noRange || invalid || isStall(err)
	return !final && (status < http.StatusMultipleChoices || status >= http.StatusInternalServerError)
}

func (r *partReader) Read(b []byte) (int, error) {
	if r.tail != nil {
		return r.tail.Read(b)
	}
	if len(r.rest) == 0 && r.err == nil {
		r.err = r.advance()
	}
	switch {
	case r.err == nil && r.tail != nil:
		return r.tail.Read(b)
	case len(r.rest) == 0:
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
	err := p.err
	if _, ok := errors.AsType[*noRangeError](err); ok {
		r.tail, err = r.openTail(p.at)
		if err == nil {
			return nil
		}
	}
	if err != nil {
		r.cancel()
		return err
	}
	r.current, r.rest = p.buf, p.buf
	return nil
}

// Close ends the requests under way and waits for them.
func (r *partReader) Close() error {
	r.cancel()
	r.running.Wait()
	if r.tail != nil {
		return r.tail.body.Close()
	}
	return nil
}

// tail is the rest of an object that is read by one request.
type tail struct {
	body io.ReadCloser
	left int64
}

func (r *partReader) openTail(at int64) (*tail, error) {
	body, err := r.open(r.ctx, driver.Whole)
	if err != nil {
		return nil, err
	}
	if err := skip(r.ctx, body, at); err != nil {
		return nil, errors.Join(err, body.Close())
	}
	return &tail{body, r.end - at}, nil
}

func (t *tail) Read(b []byte) (int, error) {
	if t.left == 0 {
		return 0, io.EOF
	}
	n, err := t.body.Read(b[:min(int64(len(b)), t.left)])
	if t.left -= int64(n); err == io.EOF && t.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
