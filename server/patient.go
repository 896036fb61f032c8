package server

import (
	"context"
	"net/http"
	"time"
)

// patientWriter waits as long as it takes for something to write, and so long for the client to take it as stall says.
type patientWriter struct {
	http.ResponseWriter
	rc     *http.ResponseController
	stall  time.Duration
	cancel context.CancelFunc // ends the call when nobody takes its answer
	begun  bool
}

func newPatientWriter(w http.ResponseWriter, stall time.Duration, cancel context.CancelFunc) *patientWriter {
	return &patientWriter{ResponseWriter: w, rc: http.NewResponseController(w), stall: stall, cancel: cancel}
}

// Unwrap is for [http.ResponseController].
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter]. The first one counts.
func (w *patientWriter) WriteHeader(code int) {
	if !w.begun {
		w.begun = true
		w.ResponseWriter.WriteHeader(code)
	}
}

// Write implements [http.ResponseWriter]. A client that is gone is no error: it ends the call, and is in the log with it.
func (w *patientWriter) Write(p []byte) (int, error) {
	w.begun = true
	w.limit()
	if _, err := w.ResponseWriter.Write(p); err != nil {
		w.cancel()
	}
	return len(p), nil
}

// Flush implements [http.Flusher].
func (w *patientWriter) Flush() {
	w.limit()
	if w.rc.Flush() != nil {
		w.cancel()
		return
	}
	_ = w.rc.SetWriteDeadline(time.Time{}) // in HTTP/2 it would end a stream that has nothing to write, too
}

// limit starts the time that the client has. The server's own writers all have deadlines.
func (w *patientWriter) limit() { _ = w.rc.SetWriteDeadline(time.Now().Add(w.stall)) }
