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

	mu    sync.Mutex         // not held while a question is asked
	known map[string]*answer // by URL
}

// answer is the last good answer to a question, and when it was asked last.
type answer struct {
	header http.Header
	body   []byte // nil when there was none yet
	asked  time.Time
	asking chan struct{} // closed at the end of the question that is under way; nil while none is
}

var errNoAnswer = errors.New("the issuer does not answer")

func newMemory(next http.RoundTripper, now func() time.Time, log *slog.Logger) *memory {
	return &memory{next: next, now: now, log: log, known: map[string]*answer{}}
}

// RoundTrip implements [http.RoundTripper]. What is asked already is not asked twice: its answer is waited for.
func (m *memory) RoundTrip(req *http.Request) (*http.Response, error) {
	a, asking, due := m.question(req.URL.String())
	switch {
	case due:
		m.renew(req, a)
	case asking != nil:
		select {
		case <-asking:
		case <-req.Context().Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.body == nil {
		return nil, errNoAnswer
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)),
	}, nil
}

// question returns the last answer to a question, and whether it is due to be asked again, which the caller has to do
// then. While another one does that, it returns what is closed afterwards.
func (m *memory) question(url string) (a *answer, asking <-chan struct{}, due bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a = m.known[url]; a == nil {
		a = &answer{}
		m.known[url] = a
	}
	now := m.now()
	if due = a.asking == nil && (now.Sub(a.asked) >= pause || now.Before(a.asked)); due {
		a.asking = make(chan struct{})
	}
	return a, a.asking, due
}

// renew asks a question that is due.
func (m *memory) renew(req *http.Request, a *answer) {
	header, body, err := m.ask(req)
	m.mu.Lock()
	a.asked = m.now() // the pause begins with the answer
	if err == nil {
		a.header, a.body = header, body
	}
	known := a.body != nil
	close(a.asking)
	a.asking = nil
	m.mu.Unlock()
	if err != nil {
		m.log.WarnContext(req.Context(), "issuer of tokens does not answer", "url", req.URL.String(), "keys_known", known,
			"error", err)
	}
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
