package testenv

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// HTTPProxy passes requests on, can answer some of them itself, and counts them. The Host header stays as the client
// signed it.
type HTTPProxy struct {
	server  *httptest.Server
	forward *httputil.ReverseProxy

	mu     sync.Mutex
	fault  HTTPFault
	counts map[string]int
}

// HTTPFault answers one request instead of the server. It passes the request on with forward, or does not.
type HTTPFault func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc)

// StartHTTPProxy starts a proxy that ends with the test. answer, which may be nil, is asked first: when it returns true
// it has answered.
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
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) },
	}
	p := &HTTPProxy{forward: forward, counts: map[string]int{}}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.counts[S3Operation(r)]++
		fault := p.fault
		p.mu.Unlock()
		switch {
		case answer != nil && answer(w, r):
		case fault != nil:
			fault(w, r, p.Forward)
		default:
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

// Set replaces the fault; nil ends it.
func (p *HTTPProxy) Set(fault HTTPFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

// Forward passes a request on.
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
	case r.Method == http.MethodGet && q.Has("uploadId"):
		return "ListParts"
	case r.Method == http.MethodHead && strings.Contains(strings.Trim(r.URL.Path, "/"), "/"):
		return "HeadObject" // in the style of paths
	case r.Method == http.MethodHead:
		return "HeadBucket"
	default:
		return r.Method
	}
}
