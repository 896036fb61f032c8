// Package stall ends an answer that its client does not take.
package stall

import (
	"context"
	"net/http"
	"time"
)

// Guard lets a handler take any time to produce bytes, and gives the client the time of stall to take them.
type Guard struct {
	http.ResponseWriter
	rc     *http.ResponseController
	stall  time.Duration
	cancel context.CancelFunc // ends the call when the client does not take its answer
	begun  bool
}

// New returns a guard of an answer. It cancels the call when the client does not take the answer in time.
func New(w http.ResponseWriter, stall time.Duration, cancel context.CancelFunc) *Guard {
	return &Guard{ResponseWriter: w, rc: http.NewResponseController(w), stall: stall, cancel: cancel}
}

// Unwrap is for [http.ResponseController].
func (w *Guard) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter]. The first one counts.
func (w *Guard) WriteHeader(code int) {
	if !w.begun {
		w.begun = true
		w.ResponseWriter.WriteHeader(code)
	}
}

// Write implements [http.ResponseWriter]. A client that is gone is no error: the call is cancelled, and the log has its
// end.
func (w *Guard) Write(p []byte) (int, error) {
	w.begun = true
	w.limit()
	if _, err := w.ResponseWriter.Write(p); err != nil {
		w.cancel()
	}
	return len(p), nil
}

// Flush implements [http.Flusher].
func (w *Guard) Flush() {
	w.limit()
	if w.rc.Flush() != nil {
		w.cancel()
		return
	}
	_ = w.rc.SetWriteDeadline(time.Time{}) // in HTTP/2 a deadline also ends a stream with nothing to write
}

// limit starts the client's time. The server's own writers all have deadlines.
func (w *Guard) limit() { _ = w.rc.SetWriteDeadline(time.Now().Add(w.stall)) }
