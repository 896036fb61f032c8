package testenv

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// HTTPProxy passes requests on, can answer some of them itself, and counts them.
type HTTPProxy struct {
	server  *httptest.Server
	forward *httputil.ReverseProxy

	mu     sync.Mutex
	counts map[string]int
}

// StartHTTPProxy starts a proxy that ends with the test. answer, which may be nil, is asked first: when it returns true it
// has answered. The Host header stays as the client signed it.
func StartHTTPProxy(tb testing.TB, target string, answer func(http.ResponseWriter, *http.Request) bool) *HTTPProxy {
	tb.Helper()
	transport := &http.Transport{DisableCompression: true}
	forward := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			host := r.In.Host
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = host
		},
		// A client that goes away is a part of many tests; nobody needs to read of it.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	p := &HTTPProxy{forward: forward, counts: map[string]int{}}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.counts[S3Operation(r)]++
		p.mu.Unlock()
		if answer == nil || !answer(w, r) {
			p.Forward(w, r)
		}
	}))
	tb.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Addr returns the address of the proxy.
func (p *HTTPProxy) Addr() string { return p.server.Listener.Addr().String() }

// Forward passes a request on. Whoever answers requests himself can do so, too, and drop or hold what comes back.
func (p *HTTPProxy) Forward(w http.ResponseWriter, r *http.Request) { p.forward.ServeHTTP(w, r) }

// Counts returns how many requests there were by operation, as [S3Operation] names them.
func (p *HTTPProxy) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// S3Operation returns what S3 calls a request, for those that backends make; else its method.
func S3Operation(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case q.Get("x-id") != "":
		return q.Get("x-id")
	case r.Method == http.MethodGet && q.Get("list-type") == "2":
		return "ListObjectsV2"
	case r.Method == http.MethodGet && q.Has("uploads"):
		return "ListMultipartUploads"
	case r.Method == http.MethodPost && q.Has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return "AbortMultipartUpload"
	default:
		return r.Method
	}
}
