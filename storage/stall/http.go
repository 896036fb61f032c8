package stall

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/storage/driver"
)

const (
	// writeGrace is how long a request that writes goes on, once all was sent, after its caller went away. Ended before
	// its answer, nobody would know whether it took place: whether an object has become visible, or a part was stored
	// after its upload had been aborted.
	writeGrace = 10 * time.Second
	// slowFactor is how many times as long the answer to a slow request may take.
	slowFactor = 5
)

// Client ends requests on which nothing moves.
type Client struct {
	HTTP    *http.Client
	Limit   time.Duration
	Uploads driver.Limiter           // of request bodies; may be nil
	Slow    func(*http.Request) bool // whether the server works in silence before it answers; may be nil
	Short   func(*http.Request) bool // whether the answer is a small document; may be nil
}

// Do sends a request.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	w := c.watch(req)
	out := req.WithContext(w.ctx) //nolint:contextcheck // it follows the request's own, up to a point
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = &sentBody{ReadCloser: req.Body, w: w, limit: c.Uploads, left: req.ContentLength}
	} else {
		_ = w.sent() // if it was cancelled, sending says so
	}
	resp, err := c.HTTP.Do(out)
	w.disarm()
	if err != nil {
		err = w.why(err)
		w.end()
		return nil, err
	}
	if resp.StatusCode >= http.StatusMultipleChoices || c.Short != nil && c.Short(req) {
		w.hurry()
	}
	resp.Body = &receivedBody{ReadCloser: resp.Body, w: w}
	return resp, nil
}

// watch is the watchdog of one request, and its way to be cancelled.
type watch struct {
	ctx      context.Context //nolint:containedctx // of one request, which it is there to end
	cancel   context.CancelCauseFunc
	unfollow func() bool
	limit    time.Duration
	after    time.Duration // the limit once all was sent
	writes   bool

	mu       sync.Mutex
	timer    *time.Timer
	answered bool
	sentAll  bool        // of a request that writes
	grace    *time.Timer // runs when the caller went away after that
	deadline *time.Timer // of a short answer
}

func (c *Client) watch(req *http.Request) *watch {
	w := &watch{limit: c.Limit, after: c.Limit, writes: req.Method == http.MethodPut || req.Method == http.MethodPost}
	if c.Slow != nil && c.Slow(req) {
		w.after = slowFactor * c.Limit
	}
	parent := req.Context()
	w.ctx, w.cancel = context.WithCancelCause(context.WithoutCancel(parent))
	w.timer = time.AfterFunc(w.limit, func() { w.cancel(nothingMoved(w.limit, hintServer)) })
	w.unfollow = context.AfterFunc(parent, func() { w.abandon(context.Cause(parent)) })
	return w
}

// abandon ends the request because its caller went away.
func (w *watch) abandon(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sentAll && !w.answered {
		w.grace = time.AfterFunc(writeGrace, func() { w.cancel(cause) })
		return
	}
	w.cancel(cause)
}

// moved notes that the server took something.
func (w *watch) moved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.answered {
		w.timer.Reset(w.limit)
	}
}

// sent notes that there is nothing more to send. A request that writes is then not cancelled any more; it is an error
// when it was before.
func (w *watch) sent() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	w.sentAll = w.writes
	if !w.answered {
		w.timer.Stop()
		w.timer = time.AfterFunc(w.after, func() { w.cancel(nothingMoved(w.after, hintServer)) })
	}
	return nil
}

// arm starts the watchdog while an answer's body is read, disarm stops it: a reader may take its time.
func (w *watch) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Reset(w.limit)
}

func (w *watch) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = true
	w.timer.Stop()
}

// hurry gives the rest of the answer a time: a document that comes byte by byte moves, and would never end.
func (w *watch) hurry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	most := slowFactor * w.limit
	w.deadline = time.AfterFunc(most, func() { w.cancel(tooSlow(most)) })
}

// why returns why the request was ended, if it was.
func (w *watch) why(err error) error {
	if cause := context.Cause(w.ctx); cause != nil {
		return cause
	}
	return err
}

func (w *watch) end() {
	w.unfollow()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	for _, t := range []*time.Timer{w.grace, w.deadline} {
		if t != nil {
			t.Stop()
		}
	}
	w.cancel(context.Canceled)
}

// sentBody is the body of a request; it is read as the server takes it.
type sentBody struct {
	io.ReadCloser
	w     *watch
	limit driver.Limiter // may be nil
	left  int64          // below 0 when not known
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.w.moved()
	n, err := b.ReadCloser.Read(p)
	if werr := b.wait(n); werr != nil {
		return 0, werr
	}
	last := errors.Is(err, io.EOF)
	if b.left > 0 {
		b.left -= int64(n)
		last = last || b.left == 0
	}
	if last {
		if err := b.w.sent(); err != nil {
			return 0, err // the last bytes are not sent
		}
	}
	return n, err
}

// wait is until as many bytes may be sent. That is no time in which nothing moves.
func (b *sentBody) wait(n int) error {
	if b.limit == nil {
		return nil
	}
	err := b.limit.Wait(b.w.ctx, n)
	b.w.moved()
	return err
}

// receivedBody is the body of an answer.
type receivedBody struct {
	io.ReadCloser
	w *watch
}

func (b *receivedBody) Read(p []byte) (int, error) {
	b.w.arm()
	n, err := b.ReadCloser.Read(p)
	b.w.disarm()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.w.why(err)
	}
	return n, err
}

func (b *receivedBody) Close() error {
	err := b.ReadCloser.Close()
	b.w.end()
	return err
}
