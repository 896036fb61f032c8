package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// largest has more parts, and so has it without a MiB, than are read at once.
const largest = 34*mib + 3

// large is an object of several parts, and another one of the same size. They are not to be changed.
func large() (a, b []byte) {
	all := random()
	return all[:len(all)-mib], all[mib:]
}

var random = sync.OnceValue(func() []byte {
	b := make([]byte, largest)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

func putBytes(t *testing.T, b repository.Backend, content []byte) {
	t.Helper()
	if err := b.Put(t.Context(), "default/x.db", bytes.NewReader(content), putOptions(false)); err != nil {
		t.Error(err)
	}
}

// read reads the object and returns its bytes.
func read(ctx context.Context, b repository.Backend) ([]byte, error) {
	r, err := b.Get(ctx, "default/x.db", repository.Range{})
	if err != nil {
		return nil, err
	}
	got, err := all(r, largest)
	return got, errors.Join(err, r.Close())
}

// all reads to the end, which is about size bytes away. A buffer that grew would copy all of it several times, and the
// race detector looks at each byte.
func all(r io.Reader, size int) ([]byte, error) {
	got := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err := got.ReadFrom(r)
	return got.Bytes(), err
}

func isGet(r *http.Request) bool { return testenv.S3Operation(r) == "GetObject" }

// half answers with half of the server's answer, and breaks off.
func half(proxy *testenv.HTTPProxy, w http.ResponseWriter, r *http.Request) {
	whole := httptest.NewRecorder()
	proxy.Forward(whole, r)
	for name, values := range whole.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(whole.Body.Len()))
	w.WriteHeader(whole.Code)
	_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestLargeObjectIsReadInParts(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	back := b.backend(t, proxy.Addr(), "")
	content, _ := large()
	for size, want := range map[int]int{1000: 1, 8 * mib: 1, 8*mib + 1: 2, len(content): 5} {
		putBytes(t, back, content[:size])
		before := proxy.Counts()["GetObject"]
		if got, err := read(t.Context(), back); err != nil || !bytes.Equal(got, content[:size]) {
			t.Errorf("got %d bytes and %v, want %d", len(got), err, size)
		}
		if n := proxy.Counts()["GetObject"] - before; n != want {
			t.Errorf("%d bytes took %d requests, want %d", size, n, want)
		}
	}
}

func TestPartsThatBreakAreResumed(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	content, _ := large()
	putBytes(t, b.backend(t, b.Addr(), ""), content)
	for name, breakIt := range map[string]func(*testenv.HTTPProxy, http.ResponseWriter, *http.Request){
		"half of it": half,
		"none of it": func(*testenv.HTTPProxy, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"an error":   func(_ *testenv.HTTPProxy, w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "SlowDown") },
		"a bad proxy": func(_ *testenv.HTTPProxy, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			broken := map[string]bool{}
			var proxy *testenv.HTTPProxy
			proxy = testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
				at := r.Header.Get("Range")
				start, _, _ := strings.Cut(strings.TrimPrefix(at, "bytes="), "-")
				n, _ := strconv.Atoi(start)
				mu.Lock()
				done := broken[at]
				broken[at] = true
				mu.Unlock()
				if done || at == "" || n%(8*mib) != 0 { // a resumed part goes through
					return false
				}
				breakIt(proxy, w, r)
				return true
			})
			if got, err := read(t.Context(), b.backend(t, proxy.Addr(), "")); err != nil || !bytes.Equal(got, content) {
				t.Errorf("got %d bytes and %v, want %d", len(got), err, len(content))
			}
			if n := proxy.Counts()["GetObject"]; n < 9 {
				t.Errorf("there were only %d requests: nothing was broken", n)
			}
		})
	}
}

func TestPartThatAlwaysBreaksIsAnError(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	content, _ := large()
	putBytes(t, b.backend(t, b.Addr(), ""), content)
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter)
		reason snapshot.Reason
		most   int // requests
	}{
		"denied":   {func(w http.ResponseWriter) { refuse(w, 403, "AccessDenied") }, snapshot.ReasonBackendAccessDenied, 5},
		"no range": {func(w http.ResponseWriter) { w.Header().Set("ETag", "x"); _, _ = w.Write(make([]byte, 100)) }, snapshot.ReasonBackendUnavailable, 60},
		"reset":    {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, snapshot.ReasonBackendUnavailable, 60},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Range") == "" {
					return false
				}
				test.answer(w)
				return true
			})
			got, err := read(t.Context(), b.backend(t, proxy.Addr(), ""))
			if snapshot.ReasonOf(err) != test.reason || !bytes.Equal(got, content[:8*mib]) {
				t.Errorf("got %d bytes and %v (%s), want the first part and %s", len(got), err, snapshot.ReasonOf(err), test.reason)
			}
			if n := proxy.Counts()["GetObject"]; n > test.most {
				t.Errorf("there were %d requests", n)
			}
		})
	}
}

func TestObjectThatIsReplacedIsNoMixture(t *testing.T) {
	t.Parallel()
	server := testenv.SharedS3(t)
	before, after := large()
	for name, ignore := range map[string]bool{"the server knows If-Match": false, "it does not": true} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(server)
			direct := b.backend(t, b.Addr(), "")
			putBytes(t, direct, before)
			var once sync.Once
			proxy := testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
				if !isGet(r) || r.Header.Get("Range") != "bytes=16777216-25165823" {
					return false
				}
				if ignore {
					w.Header().Set("ETag", `"another"`)
					w.Header().Set("Content-Range", fmt.Sprintf("bytes 16777216-25165823/%d", len(after)))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(after[16777216:25165824])
					return true
				}
				once.Do(func() { putBytes(t, direct, after) })
				return false
			})
			got, err := read(t.Context(), b.backend(t, proxy.Addr(), ""))
			if e, ok := errors.AsType[*snapshot.Error](err); !ok || e.Reason != snapshot.ReasonBackendUnavailable || e.Retry == 0 ||
				!strings.Contains(err.Error(), "replaced") {
				t.Errorf("got %v", err)
			}
			if !bytes.HasPrefix(before, got) {
				t.Errorf("the %d bytes are a mixture", len(got))
			}
		})
	}
}

// weak makes the ETag of an answer weak, as proxies that compress do.
type weak struct{ http.ResponseWriter }

func (w weak) WriteHeader(code int) {
	if etag := w.Header().Get("ETag"); etag != "" {
		w.Header().Set("ETag", "W/"+etag)
	}
	w.ResponseWriter.WriteHeader(code)
}

// If-Match compares strongly (RFC 9110), so no object ever has a weak ETag for it. The parts are compared by the reader
// then.
func TestObjectWithAWeakETagIsReadInPartsAndIsNoMixture(t *testing.T) {
	t.Parallel()
	server := testenv.SharedS3(t)
	before, after := large()
	for name, replaced := range map[string]bool{"it stays": false, "it is replaced": true} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(server)
			direct := b.backend(t, b.Addr(), "")
			putBytes(t, direct, before)
			var once sync.Once
			var proxy *testenv.HTTPProxy
			proxy = testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
				if !isGet(r) {
					return false
				}
				if r.Header.Get("If-Match") != "" {
					t.Errorf("If-Match: %s", r.Header.Get("If-Match"))
				}
				if replaced && r.Header.Get("Range") == "bytes=16777216-25165823" {
					once.Do(func() { putBytes(t, direct, after) })
				}
				proxy.Forward(weak{w}, r)
				return true
			})
			got, err := read(t.Context(), b.backend(t, proxy.Addr(), ""))
			switch {
			case !replaced && (err != nil || !bytes.Equal(got, before)):
				t.Errorf("got %d bytes and %v, want %d", len(got), err, len(before))
			case replaced && (snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || !strings.Contains(err.Error(), "replaced")):
				t.Errorf("replaced: got %v", err)
			case !bytes.HasPrefix(before, got):
				t.Errorf("the %d bytes are a mixture", len(got))
			}
		})
	}
}

func TestReaderThatIsGivenUpLeavesNothing(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	content, _ := large()
	putBytes(t, b.backend(t, b.Addr(), ""), content)
	proxy := testenv.StartProxy(t, b.Addr())
	back := b.backend(t, proxy.Addr(), "", func(c *storage.Config) { c.StallTimeout = time.Second })
	before := runtime.NumGoroutine()
	for name, end := range map[string]func(io.Closer, context.CancelFunc){
		"closed":    func(c io.Closer, _ context.CancelFunc) { _ = c.Close() },
		"cancelled": func(_ io.Closer, cancel context.CancelFunc) { cancel() },
		"stalled":   func(io.Closer, context.CancelFunc) { proxy.Blackhole() },
	} {
		t.Run(name, func(t *testing.T) {
			proxy.Restore()
			proxy.SetRate(20 * mib) // so that parts are under way
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := back.Get(ctx, "default/x.db", repository.Range{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			if _, err := io.CopyN(io.Discard, r, mib); err != nil {
				t.Fatal(err)
			}
			end(r, cancel)
			if _, err := io.Copy(io.Discard, r); err == nil {
				t.Error("it could be read to the end")
			}
		})
	}
	proxy.Restore()
	if err := back.Close(t.Context()); err != nil { // its idle connections have goroutines, too
		t.Error(err)
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+8; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, and %d before", runtime.NumGoroutine(), before)
		}
	}
}
