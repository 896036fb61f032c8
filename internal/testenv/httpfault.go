package testenv

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// HTTPFault decides about one request, before it is passed on: nil passes it on as it is. It may answer itself, and
// returns false then.
type HTTPFault func(w http.ResponseWriter, r *http.Request) (pass bool)

// FaultyHTTP passes HTTP requests on to a server and lets a fault have them first. The Host header stays the client's, as
// signatures need it.
type FaultyHTTP struct {
	server *httptest.Server
	mu     sync.Mutex
	fault  HTTPFault
}

// StartFaultyHTTP starts a proxy that ends with the test.
func StartFaultyHTTP(tb testing.TB, target string) *FaultyHTTP {
	tb.Helper()
	p := &FaultyHTTP{}
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: target})
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) },
	}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		fault := p.fault
		p.mu.Unlock()
		if fault == nil || fault(w, r) {
			pass.ServeHTTP(w, r)
		}
	}))
	tb.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// Addr returns the proxy's address.
func (p *FaultyHTTP) Addr() string { return p.server.Listener.Addr().String() }

// Set replaces the fault; nil heals.
func (p *FaultyHTTP) Set(fault HTTPFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

// reset ends the connection with an RST.
func reset(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, _, err := h.Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Chance is a source of random numbers for faults, which are asked from several goroutines.
type Chance struct {
	mu  sync.Mutex
	rng *rand.Rand
}

// NewChance returns a seeded source.
func NewChance(seed uint64) *Chance { return &Chance{rng: rand.New(rand.NewPCG(seed, 1))} }

// IntN returns a number from 0 to n-1.
func (c *Chance) IntN(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rng.IntN(n)
}

// Latency holds one of so many requests up.
func Latency(c *Chance, oneOf int, d time.Duration) HTTPFault {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		if c.IntN(oneOf) == 0 {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
			case <-r.Context().Done():
			}
		}
		return true
	}
}

// Resets ends so many percent of the requests with a reset.
func Resets(c *Chance, percent int) HTTPFault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		if c.IntN(100) >= percent {
			return true
		}
		reset(w)
		return false
	}
}

// Answers answers each request from the skipped ones on with an error of S3.
func Answers(skip, status int, code string) HTTPFault {
	var mu sync.Mutex
	return func(w http.ResponseWriter, _ *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if skip > 0 {
			skip--
			return true
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>made by a test</Message></Error>`, code)
		return false
	}
}

// Drips answers one of so many requests with bytes that trickle for d and never make a response, then ends the connection.
func Drips(c *Chance, oneOf int, d time.Duration) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if c.IntN(oneOf) > 0 {
			return true
		}
		_, _ = io.Copy(io.Discard, r.Body)
		flusher, _ := w.(http.Flusher)
		for end := time.Now().Add(d); time.Now().Before(end) && r.Context().Err() == nil; time.Sleep(20 * time.Millisecond) {
			_, _ = io.WriteString(w, " ")
			flusher.Flush()
		}
		reset(w)
		return false
	}
}

// Cuts passes one of so many requests on and cuts it at a random byte of what the client sends.
func Cuts(c *Chance, oneOf int) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if c.IntN(oneOf) > 0 {
			return true
		}
		_, _ = io.CopyN(io.Discard, r.Body, int64(c.IntN(int(max(1, r.ContentLength)))))
		reset(w)
		return false
	}
}
