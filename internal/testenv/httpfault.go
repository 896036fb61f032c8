package testenv

import (
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

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
	return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if c.IntN(oneOf) == 0 {
			t := time.NewTimer(d)
			defer t.Stop()
			select {
			case <-t.C:
			case <-r.Context().Done():
			}
		}
		forward(w, r)
	}
}

// Resets ends so many percent of the requests with a reset.
func Resets(c *Chance, percent int) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if c.IntN(100) >= percent {
			forward(w, r)
			return
		}
		reset(w)
	}
}

// Answers answers each request from the skipped ones on with an error of S3.
func Answers(skip, status int, code string) HTTPFault {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		mu.Lock()
		skipped := skip > 0
		skip--
		mu.Unlock()
		if skipped {
			forward(w, r)
			return
		}
		s3Error(w, status, code)
	}
}

// Drips answers one of so many requests with bytes that trickle for d and never make a response, then ends the
// connection.
func Drips(c *Chance, oneOf int, d time.Duration) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if c.IntN(oneOf) > 0 {
			forward(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		flusher, _ := w.(http.Flusher)
		for end := time.Now().Add(d); time.Now().Before(end) && r.Context().Err() == nil; time.Sleep(20 * time.Millisecond) {
			_, _ = io.WriteString(w, " ")
			flusher.Flush()
		}
		reset(w)
	}
}

// Cuts passes one of so many requests on and cuts it at a random byte of what the client sends.
func Cuts(c *Chance, oneOf int) HTTPFault {
	return func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
		if c.IntN(oneOf) > 0 {
			forward(w, r)
			return
		}
		_, _ = io.CopyN(io.Discard, r.Body, int64(c.IntN(int(max(1, r.ContentLength)))))
		reset(w)
	}
}
