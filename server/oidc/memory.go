package oidc

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	// pause is the least time between two questions for the same: a token with a key that nobody knows makes the library
	// ask, and anyone can make such tokens.
	pause = 5 * time.Second
	// maxAnswer is far above the size of an issuer's description, and of its keys.
	maxAnswer = 1 << 20
)

// memory remembers the last good answer to each question, and gives it again while the issuer does not answer.
type memory struct {
	next http.RoundTripper
	now  func() time.Time
	log  *slog.Logger

	mu    sync.Mutex
	known map[string]*answer // by URL
}

// answer is the last good answer to a question, and when it was asked last.
type answer struct {
	header http.Header
	body   []byte // nil when there was none yet
	asked  time.Time
}

var errNoAnswer = errors.New("the issuer does not answer")

func newMemory(next http.RoundTripper, now func() time.Time, log *slog.Logger) *memory {
	return &memory{next: next, now: now, log: log, known: map[string]*answer{}}
}

// RoundTrip implements [http.RoundTripper].
func (m *memory) RoundTrip(req *http.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock() // questions are few, and those for the same need not be asked twice
	url := req.URL.String()
	a := m.known[url]
	if a == nil {
		a = &answer{}
		m.known[url] = a
	}
	if now := m.now(); now.Sub(a.asked) >= pause || now.Before(a.asked) {
		header, body, err := m.ask(req)
		a.asked = m.now() // those that have waited for the answer are not to ask again
		if err == nil {
			a.header, a.body = header, body
		} else {
			m.log.WarnContext(req.Context(), "issuer of tokens does not answer", "url", url, "keys_known", a.body != nil,
				"error", err)
		}
	}
	if a.body == nil {
		return nil, errNoAnswer
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)),
	}, nil
}

func (m *memory) ask(req *http.Request) (http.Header, []byte, error) {
	resp, err := m.next.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, nil, errors.New("it answered " + resp.Status)
	}
	return resp.Header, body, nil
}
