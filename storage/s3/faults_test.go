package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

const mib = 1 << 20

func putOptions(ifAbsent bool) repository.PutOptions {
	return repository.PutOptions{ContentType: "application/octet-stream", IfAbsent: ifAbsent}
}

func put(ctx context.Context, b repository.Backend, key string, size int) error {
	return b.Put(ctx, key, bytes.NewReader(make([]byte, size)), putOptions(false))
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>for the test</Message><RequestId>1</RequestId></Error>", code)
}

func TestListingThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	for i := range 1100 {
		b.plant(t, fmt.Sprintf("default/%04d.json", i))
	}
	var proxy *testenv.HTTPProxy
	for _, test := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request)
		reason snapshot.Reason
		text   string
	}{
		{"403", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "AccessDenied") }, snapshot.ReasonBackendAccessDenied, "ListObjectsV2: 403 AccessDenied: for the test"},
		{"404", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "NoSuchBucket") }, snapshot.ReasonBackendNotFound, "ListObjectsV2: 404 NoSuchBucket: for the test"},
		{"404 without a code", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, snapshot.ReasonBackendUnavailable, "ListObjectsV2: 404"},
		{"500", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "InternalError") }, snapshot.ReasonBackendUnavailable, "ListObjectsV2: 500 InternalError: for the test"},
		{"connection lost", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, snapshot.ReasonBackendUnavailable, "ListObjectsV2: the connection broke off (EOF)"},
		{"half a page", func(w http.ResponseWriter, r *http.Request) {
			whole := httptest.NewRecorder()
			proxy.Forward(whole, r)
			w.Header().Set("Content-Length", fmt.Sprint(whole.Body.Len()))
			_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, snapshot.ReasonBackendUnavailable, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy = testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
				if !r.URL.Query().Has("continuation-token") {
					return false
				}
				test.answer(w, r)
				return true
			})
			n, last := 0, error(nil)
			for _, err := range b.backend(t, proxy.Addr(), "").List(t.Context(), "default/") {
				if last = err; err == nil {
					n++
				}
			}
			if snapshot.ReasonOf(last) != test.reason || errors.Is(last, snapshot.ErrNotFound) || n != 1000 {
				t.Fatalf("got %d objects, then %v (%s), want %s", n, last, snapshot.ReasonOf(last), test.reason)
			}
			if want := `backend "s3": list default/: ` + test.text; !strings.HasPrefix(last.Error(), want) {
				t.Errorf("got %q, want %q", last, want)
			}
		})
	}
	t.Run("whole", func(t *testing.T) {
		proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
		n := 0
		for _, err := range b.backend(t, proxy.Addr(), "").List(t.Context(), "default/") {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		if counts := proxy.Counts(); n != 1100 || len(counts) != 1 || counts["ListObjectsV2"] != 2 {
			t.Errorf("%d objects took %v", n, counts)
		}
	})
}

// plant puts a small object behind the server's back, which is quick.
func (b bucket) plant(t *testing.T, key string) {
	t.Helper()
	path := filepath.Join(b.Dir(), b.name, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLostAnswersAreFoundOut: what was stored although its answer was lost is stored, whatever the repetition is told.
func TestLostAnswersAreFoundOut(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	for op, size := range map[string]int{"PutObject": 100, "CompleteMultipartUpload": 9 * mib} {
		for _, ifAbsent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %t", op, ifAbsent), func(t *testing.T) {
				var proxy *testenv.HTTPProxy
				var once sync.Once
				proxy = testenv.StartHTTPProxy(t, b.Addr(), func(_ http.ResponseWriter, r *http.Request) (dropped bool) {
					if testenv.S3Operation(r) == op {
						once.Do(func() { dropped = true })
					}
					if dropped {
						proxy.Forward(httptest.NewRecorder(), r)
						panic(http.ErrAbortHandler)
					}
					return false
				})
				back, key := b.backend(t, proxy.Addr(), ""), fmt.Sprintf("default/%s-%t.db", op, ifAbsent)
				if err := back.Put(t.Context(), key, bytes.NewReader(make([]byte, size)), putOptions(ifAbsent)); err != nil {
					t.Error(err)
				}
				if n := proxy.Counts()[op]; n < 2 {
					t.Errorf("%s was sent %d times", op, n)
				}
				if o, err := back.Stat(t.Context(), key); err != nil || o.Size != int64(size) {
					t.Errorf("got %+v, %v", o, err)
				}
				if left := b.uploads(t); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			})
		}
	}
}

// TestCancelThatComesTooLateIsNotObeyed: nobody is told that a put failed when its object is there.
func TestCancelThatComesTooLateIsNotObeyed(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	for op, size := range map[string]int{"PutObject": 100, "CompleteMultipartUpload": 9 * mib} {
		t.Run(op, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var proxy *testenv.HTTPProxy
			proxy = testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
				if testenv.S3Operation(r) != op {
					return false
				}
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				cancel()
				proxy.Forward(w, r)
				return true
			})
			back := b.backend(t, proxy.Addr(), "")
			if err := put(ctx, back, "default/"+op+".db", size); err != nil {
				t.Error(err)
			}
			if o, err := back.Stat(t.Context(), "default/"+op+".db"); err != nil || o.Size != int64(size) {
				t.Errorf("got %+v, %v", o, err)
			}
		})
	}
}

func TestUploadThatIsRefusedLeavesNoParts(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	for name, test := range map[string]struct {
		status int
		code   string
		op     func(*http.Request) bool
		reason snapshot.Reason
	}{
		"part denied":     {403, "AccessDenied", func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "2" }, snapshot.ReasonBackendAccessDenied},
		"part, no space":  {507, "XMinioStorageFull", func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "3" }, snapshot.ReasonNoSpace},
		"complete fails":  {500, "InternalError", func(r *http.Request) bool { return testenv.S3Operation(r) == "CompleteMultipartUpload" }, snapshot.ReasonBackendUnavailable},
		"complete denied": {403, "AccessDenied", func(r *http.Request) bool { return testenv.S3Operation(r) == "CompleteMultipartUpload" }, snapshot.ReasonBackendAccessDenied},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
				if !test.op(r) {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				refuse(w, test.status, test.code)
				return true
			})
			back := b.backend(t, proxy.Addr(), "")
			err := put(t.Context(), back, "default/x.db", 17*mib)
			if snapshot.ReasonOf(err) != test.reason || !strings.Contains(err.Error(), fmt.Sprintf("%d %s: for the test", test.status, test.code)) {
				t.Errorf("got %v (%s), want %s", err, snapshot.ReasonOf(err), test.reason)
			}
			if _, err := back.Stat(t.Context(), "default/x.db"); !errors.Is(err, snapshot.ErrNotFound) {
				t.Errorf("it is visible: %v", err)
			}
			if left := b.uploads(t); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestBlackHoleIsGivenUpAndSweptLater(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	proxy := testenv.StartProxy(t, b.Addr())
	back := b.backend(t, proxy.Addr(), "", func(c *storage.Config) { c.StallTimeout = time.Second })
	if err := put(t.Context(), b.backend(t, b.Addr(), ""), "default/before.db", 1); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	half := io.MultiReader(bytes.NewReader(make([]byte, 17*mib)), readerFunc(func([]byte) (int, error) {
		once.Do(proxy.Blackhole)
		return 0, io.EOF
	}))
	putErr := back.Put(t.Context(), "default/x.db", half, putOptions(false))
	_, statErr := back.Stat(t.Context(), "default/before.db")
	var listErr error
	for _, listErr = range back.List(t.Context(), "default/") {
	}
	for op, err := range map[string]error{"put": putErr, "stat": statErr, "list": listErr} {
		e, ok := errors.AsType[*snapshot.Error](err)
		if !ok || e.Reason != snapshot.ReasonBackendUnavailable || e.Retry == 0 {
			t.Errorf("%s: got %v, want BACKEND_UNAVAILABLE and a retry", op, err)
		}
	}
	proxy.Restore()
	if _, err := back.Stat(t.Context(), "default/x.db"); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("it is visible: %v", err)
	}
	left := int64(len(b.uploads(t)))
	if n, err := back.Sweep(t.Context(), "default/", repository.SweepOptions{OlderThan: time.Now().Add(time.Hour)}); n != left || err != nil {
		t.Errorf("swept %d of %d, %v", n, left, err)
	}
	if left := b.uploads(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestConnectionLostWhileReading(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.SharedS3(t))
	proxy := testenv.StartProxy(t, b.Addr())
	back := b.backend(t, proxy.Addr(), "")
	if err := put(t.Context(), back, "default/x.db", 4*mib); err != nil {
		t.Fatal(err)
	}
	proxy.CutAfter(mib)
	r, err := back.Get(t.Context(), "default/x.db", repository.Range{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if closeErr := r.Close(); closeErr != nil {
		t.Error(closeErr)
	}
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || len(got) >= 4*mib {
		t.Errorf("got %d bytes and %v (%s), want BACKEND_UNAVAILABLE", len(got), err, snapshot.ReasonOf(err))
	}
}

func TestServerMayComeBack(t *testing.T) {
	t.Parallel()
	b := newBucket(testenv.StartS3(t))
	back := b.backend(t, b.Addr(), "")
	b.Stop()
	err := put(t.Context(), back, "default/x.db", 1)
	if e, ok := errors.AsType[*snapshot.Error](err); !ok || e.Reason != snapshot.ReasonBackendUnavailable || e.Retry == 0 || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v, want BACKEND_UNAVAILABLE", err)
	}
	b.Start()
	if err := put(t.Context(), back, "default/x.db", 1); err != nil {
		t.Error(err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	server := testenv.SharedS3(t)
	b := newBucket(server)
	creds, err := b.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same := func(*storage.Config) {}
	for name, test := range map[string]struct {
		bucket string
		key    string
		secret string
		edit   func(*storage.Config)
		reason snapshot.Reason
		want   []string
	}{
		"wrong secret": {b.name, creds.AccessKeyID, "hunter2", same, snapshot.ReasonBackendAccessDenied, []string{"403 SignatureDoesNotMatch", "secret key"}},
		"unknown key":  {b.name, "NOBODY", "hunter2", same, snapshot.ReasonBackendAccessDenied, []string{"XAdminUserNotFound", "the access key is not known"}},
		"no bucket":    {"nobodys-bucket", creds.AccessKeyID, creds.SecretAccessKey, same, snapshot.ReasonBackendNotFound, []string{"404 NoSuchBucket", "create it"}},
		"TLS": {b.name, creds.AccessKeyID, creds.SecretAccessKey, func(c *storage.Config) { c.URL = strings.Replace(c.URL, "http%3A", "https%3A", 1) },
			snapshot.ReasonBackendUnavailable, []string{"HeadObject: http: server gave HTTP response", "write http://"}},
		"no region": {b.name, creds.AccessKeyID, creds.SecretAccessKey, func(c *storage.Config) { c.URL = "s3://" + b.name }, snapshot.ReasonBackendUnavailable, []string{"no region", "region="}},
		"no such profile": {b.name, creds.AccessKeyID, creds.SecretAccessKey, func(c *storage.Config) { c.URL += "&profile=nobodys" },
			snapshot.ReasonBackendUnavailable, []string{"nobodys", "check the profile"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_CONFIG_FILE", "/dev/null")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
			t.Setenv("AWS_REGION", "")
			t.Setenv("AWS_ACCESS_KEY_ID", test.key)
			t.Setenv("AWS_SECRET_ACCESS_KEY", test.secret)
			b := bucket{server, test.bucket}
			err := put(t.Context(), b.backend(t, b.Addr(), "", test.edit), "default/x.db", 1)
			if snapshot.ReasonOf(err) != test.reason {
				t.Fatalf("got %v (%s), want %s", err, snapshot.ReasonOf(err), test.reason)
			}
			for _, want := range append(test.want, `backend "s3": put default/x.db: `) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
			for _, secret := range []string{"hunter2", creds.SecretAccessKey, "Signature=", "X-Amz-"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q is in %q", secret, err)
				}
			}
			t.Log(err)
		})
	}
}
