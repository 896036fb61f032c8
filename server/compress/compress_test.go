package compress_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/server/compress"
)

// serve answers with a kind of content, in the parts in which a handler writes it.
func serve(t *testing.T, kind string, code int, parts ...string) string {
	t.Helper()
	srv := httptest.NewServer(compress.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("ETag", `"1"`)
		if code != 0 {
			w.WriteHeader(code)
		}
		for _, p := range parts {
			_, _ = io.WriteString(w, p)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}
	})))
	t.Cleanup(srv.Close)
	return srv.URL
}

func ask(t *testing.T, method, url, encodings string) (code int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", encodings) // so that the client does not decompress by itself
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var from io.Reader = resp.Body
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if from, err = gzip.NewReader(resp.Body); err != nil {
			t.Fatal(err)
		}
	}
	b, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// An answer is compressed for those who take it so, and is the same for all.
func TestAnswersAreCompressedForThoseWhoTakeThemSo(t *testing.T) {
	long := strings.Repeat(`{"name": "a"}`, 1000)
	for name, c := range map[string]struct {
		kind, encodings string
		code            int
		want            bool
	}{
		"JSON":             {"application/json", "gzip, br", 0, true},
		"JSON in parts":    {"application/json; charset=utf-8", "br;q=1, gzip;q=0.5", 200, true},
		"an error":         {"application/json", "gzip", 404, true},
		"a script":         {"text/javascript; charset=utf-8", "gzip", 200, true},
		"not wanted":       {"application/json", "br", 200, false},
		"not at all":       {"application/json", "gzip;q=0", 200, false},
		"a stream":         {"application/x-ndjson", "gzip", 200, false},
		"a file":           {"application/octet-stream", "gzip", 200, false},
		"metrics":          {"text/plain", "gzip", 200, false},
		"a part of a file": {"text/css", "gzip", 206, false},
	} {
		t.Run(name, func(t *testing.T) {
			code, header, body := ask(t, http.MethodGet, serve(t, c.kind, c.code, long[:100], long[100:]), c.encodings)
			if got := header.Get("Content-Encoding") == "gzip"; got != c.want || body != long {
				t.Errorf("compressed %t, %d bytes of %d", got, len(body), len(long))
			}
			if tag := header.Get("ETag"); c.want != (tag == `W/"1"`) {
				t.Errorf("the tag is %s", tag)
			}
			if c.code != 0 && code != c.code {
				t.Errorf("the code is %d", code)
			}
		})
	}
	_, header, _ := ask(t, http.MethodHead, serve(t, "application/json", 200, long), "gzip")
	if header.Get("Content-Encoding") != "" {
		t.Errorf("without a body: %v", header)
	}
}
