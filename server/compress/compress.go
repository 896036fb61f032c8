// Package compress makes answers over HTTP smaller: a list of a thousand snapshots is a megabyte of JSON, and a tenth
// of it compressed.
package compress

import (
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// kinds are the types of the answers that are compressed. Streams are not: each of their lines must arrive at once.
var kinds = []string{"application/json", "text/html", "text/css", "text/javascript"}

// writers are used again: each has buffers of hundreds of kilobytes.
var writers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one
	}
	return w
}}

// Handler compresses the answers of a handler for the clients that take them so.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !accepts(r.Header.Values("Accept-Encoding")) || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		a := &answer{ResponseWriter: w}
		defer a.close()
		next.ServeHTTP(a, r)
	})
}

// accepts reports whether a client names gzip among the encodings that it takes.
func accepts(encodings []string) bool {
	for encoding := range strings.SplitSeq(strings.Join(encodings, ","), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(encoding), ";")
		if strings.TrimSpace(name) != "gzip" {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
		return err != nil || q > 0
	}
	return false
}

// answer compresses what is written to it, once its header shows that it is worth it.
type answer struct {
	http.ResponseWriter
	decided bool
	gz      *gzip.Writer // nil when it is sent as it is
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(code int) {
	if !a.decided {
		a.decide(code)
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) decide(code int) {
	a.decided = true
	h := a.Header()
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	fits := false
	for _, k := range kinds {
		fits = fits || k == kind
	}
	if !fits {
		return
	}
	h.Add("Vary", "Accept-Encoding")
	if code == http.StatusNoContent || code == http.StatusNotModified || code == http.StatusPartialContent ||
		h.Get("Content-Encoding") != "" {
		return
	}
	h.Set("Content-Encoding", "gzip")
	h.Del("Content-Length")
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		h.Set("ETag", "W/"+tag) // the bytes are others
	}
	a.gz = writers.Get().(*gzip.Writer) // nothing else is in the pool
	a.gz.Reset(a.ResponseWriter)
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(p []byte) (int, error) {
	if !a.decided {
		a.WriteHeader(http.StatusOK)
	}
	if a.gz == nil {
		return a.ResponseWriter.Write(p)
	}
	return a.gz.Write(p)
}

// FlushError is for [http.ResponseController].
func (a *answer) FlushError() error {
	if !a.decided {
		a.WriteHeader(http.StatusOK)
	}
	if a.gz != nil {
		if err := a.gz.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// close ends the answer.
func (a *answer) close() {
	if a.gz == nil {
		return
	}
	_ = a.gz.Close() // the client is gone, and nobody can be told
	a.gz.Reset(nil)
	writers.Put(a.gz)
}
