package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
)

// Download answers with the bytes of a snapshot, which a browser stores as a file. It asks the API for them, under all
// of the API's rules: there they are lines of JSON. The query names the cluster and the snapshot; the rest of it is
// that of the API.
func Download(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		cluster, name := url.PathEscape(query.Get("cluster")), url.PathEscape(query.Get("name"))
		to := fmt.Sprintf("/v1/clusters/%s/snapshots/%s:download", cluster, name)
		query.Del("cluster")
		query.Del("name")
		u, err := url.Parse(to + "?" + query.Encode())
		if err != nil {
			http.NotFound(w, r)
			return
		}
		asked := r.Clone(r.Context())
		asked.URL, asked.RequestURI = u, ""
		out := &file{ResponseWriter: w}
		api.ServeHTTP(out, asked)
		if out.broken() {
			panic(http.ErrAbortHandler) // the browser must not take what has come for the whole
		}
	})
}

// file makes a file of the lines of a download.
type file struct {
	http.ResponseWriter
	line    []byte // that has not ended yet
	begun   bool   // its header was sent
	refused bool   // the answer is an error of the API, and is passed on
	left    int64  // bytes of the file
	failed  bool
}

// message is a line of a download.
type message struct {
	Result struct {
		Header *struct {
			FileName   string `json:"fileName"`
			TotalBytes int64  `json:"totalBytes,string"`
		} `json:"header"`
		Data []byte `json:"data"`
	} `json:"result"`
	Error json.RawMessage `json:"error"`
}

// Unwrap is for [http.ResponseController].
func (f *file) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// WriteHeader implements [http.ResponseWriter]. The header of a file waits for the first line, which may be an error.
func (f *file) WriteHeader(code int) {
	if code != http.StatusOK {
		f.refused = true
		f.ResponseWriter.WriteHeader(code)
	}
}

// FlushError is for [http.ResponseController]. There is nothing to be sent before the header.
func (f *file) FlushError() error {
	if !f.begun && !f.refused {
		return nil
	}
	return http.NewResponseController(f.ResponseWriter).Flush()
}

// Write implements [http.ResponseWriter].
func (f *file) Write(p []byte) (int, error) {
	if f.refused {
		return f.ResponseWriter.Write(p)
	}
	f.line = append(f.line, p...)
	for {
		line, rest, whole := bytes.Cut(f.line, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		err := f.take(line)
		f.line = append(f.line[:0], rest...)
		if err != nil {
			return len(p), err
		}
	}
}

// take writes the bytes of one line.
func (f *file) take(line []byte) error {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		f.failed = true
		return fmt.Errorf("read a line of the download: %w", err)
	}
	switch {
	case m.Error != nil && !f.begun:
		f.refuse(m.Error)
		return nil
	case m.Error != nil:
		f.failed = true
		return nil
	case m.Result.Header != nil:
		f.begin(m.Result.Header.FileName, m.Result.Header.TotalBytes)
		return nil
	}
	f.left -= int64(len(m.Result.Data))
	_, err := f.ResponseWriter.Write(m.Result.Data)
	return err
}

func (f *file) begin(name string, size int64) {
	f.begun, f.left = true, size
	h := f.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	f.ResponseWriter.WriteHeader(http.StatusOK)
}

// refuse answers with an error that came before any byte.
func (f *file) refuse(status json.RawMessage) {
	f.refused = true
	f.Header().Set("Content-Type", "application/json")
	f.ResponseWriter.WriteHeader(http.StatusBadGateway)
	_, _ = f.ResponseWriter.Write(append(status, '\n')) // the client is gone, and nobody can be told
}

// broken reports whether a file that was begun has not come to its end.
func (f *file) broken() bool { return f.begun && (f.failed || f.left != 0) }
