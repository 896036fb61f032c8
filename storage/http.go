package storage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	dialTimeout = 10 * time.Second
	idleTimeout = 30 * time.Second
	// settleGrace is how long a request that writes goes on, once all was sent, after its caller went away. Ended on the
	// way, nobody would know whether it took place: whether an object has become visible, or a part was stored after its
	// upload had been aborted.
	settleGrace = 10 * time.Second
	// completeFactor is how many times as long a server may take to put the parts of an upload together in silence.
	completeFactor = 5
)

// newHTTPClient returns a client like the SDK's own (with the CA bundle of its configuration, if there is one), that
// gives up connecting in time, with the CA and through the proxy that the URL names.
func (s *s3Store) newHTTPClient(base aws.HTTPClient) (*http.Client, error) {
	buildable, ok := base.(*awshttp.BuildableClient)
	if !ok {
		buildable = awshttp.NewBuildableClient()
	}
	timeout := min(dialTimeout, s.stall)
	transport := buildable.GetTransport()
	transport.DialContext = (&net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}).DialContext
	transport.TLSHandshakeTimeout = timeout
	transport.IdleConnTimeout = idleTimeout
	if file := s.loc.params.Get(caCertParam); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("parameter %q: %w", caCertParam, err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("parameter %q: %s has no certificate in PEM", caCertParam, file)
		}
		if transport.TLSClientConfig == nil {
			transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	if proxy, err := url.Parse(s.loc.params.Get(proxyParam)); err == nil && proxy.Host != "" { // it was checked
		transport.Proxy = http.ProxyURL(proxy)
	}
	return &http.Client{
		Transport: transport,
		// The signature is for the first address; the SDK makes an error of a redirect.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// stallError is that neither side of a connection moved.
type stallError struct{ limit time.Duration }

func (e *stallError) Error() string { return fmt.Sprintf("nothing moved for %v", e.limit) }

// watchedClient ends requests on which nothing moves; slow ones go on, however long they take.
type watchedClient struct {
	client  *http.Client
	limit   time.Duration
	uploads snapshot.Limiter // of what is sent; may be nil
}

// Do implements [aws.HTTPClient].
func (c *watchedClient) Do(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	w := c.watch(req)
	out := req.WithContext(w.ctx) //nolint:contextcheck // it follows the request's own, up to a point
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = &sentBody{ReadCloser: req.Body, w: w, limit: c.uploads, left: req.ContentLength}
	} else {
		_ = w.sent() // if it was cancelled, sending says so
	}
	resp, err := c.client.Do(out)
	w.disarm()
	if err != nil {
		err = w.why(err)
		w.end()
		return nil, err
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
	settling bool        // all was sent of a request that writes
	grace    *time.Timer // runs when the caller went away after that
}

func (c *watchedClient) watch(req *http.Request) *watch {
	w := &watch{limit: c.limit, after: c.limit, writes: req.Method == http.MethodPut || req.Method == http.MethodPost}
	if req.Method == http.MethodPost && req.URL.Query().Has("uploadId") { // CompleteMultipartUpload
		w.after = completeFactor * c.limit
	}
	parent := req.Context()
	w.ctx, w.cancel = context.WithCancelCause(context.WithoutCancel(parent))
	w.timer = time.AfterFunc(w.limit, func() { w.cancel(&stallError{w.limit}) })
	w.unfollow = context.AfterFunc(parent, func() { w.abandon(context.Cause(parent)) })
	return w
}

// abandon ends the request because its caller went away.
func (w *watch) abandon(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.settling && !w.answered {
		w.grace = time.AfterFunc(settleGrace, func() { w.cancel(cause) })
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

// sent notes that there is nothing more to send. What writes is then not cancelled any more; it is an error when it was
// before.
func (w *watch) sent() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	w.settling = w.writes
	if !w.answered {
		w.timer.Stop()
		w.timer = time.AfterFunc(w.after, func() { w.cancel(&stallError{w.after}) })
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
	if w.grace != nil {
		w.grace.Stop()
	}
	w.cancel(context.Canceled)
}

// sentBody is the body of a request; it is read as the server takes it.
type sentBody struct {
	io.ReadCloser
	w     *watch
	limit snapshot.Limiter // may be nil
	left  int64            // below 0 when not known
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
