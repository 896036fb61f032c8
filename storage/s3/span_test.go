package s3_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// traced returns the spans of one run.
func traced(t *testing.T, run func(context.Context)) []sdktrace.ReadOnlySpan {
	t.Helper()
	seen := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(seen)))
	defer otel.SetTracerProvider(before)
	ctx, all := span.Run(t.Context(), "run") // outside of a run, nothing is traced
	run(ctx)
	all.End(nil)
	return seen.Ended()
}

// That an object is not there, or is there already, is an answer, and no failure: neither of the operation nor of its
// requests.
func TestOperationsAreTraced(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	proxy := testenv.StartHTTPProxy(t, b.Addr(), nil)
	back := b.backend(t, proxy.Addr(), "")
	spans := traced(t, func(ctx context.Context) {
		if err := put(ctx, back, "default/x.db", 1); err != nil {
			t.Fatal(err)
		}
		if _, err := back.Stat(ctx, "default/y.db"); err == nil {
			t.Fatal("it is there")
		}
		proxy.Set(func(w http.ResponseWriter, r *http.Request, forward http.HandlerFunc) {
			if r.Method == http.MethodHead { // it is put by another one after this answer
				w.WriteHeader(http.StatusNotFound)
				return
			}
			forward(w, r)
		})
		again := back.Put(ctx, "default/x.db", strings.NewReader("x"), repository.PutOptions{ContentType: "a/b", SizeHint: 1, IfAbsent: true})
		if !errors.Is(again, snapshot.ErrExists) {
			t.Fatalf("it was put twice: %v", again)
		}
	})
	secret, err := b.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []attribute.KeyValue{attribute.String("backend", "s3"), attribute.String("kind", "s3")}
	wantRequest := []attribute.KeyValue{attribute.String("rpc.system.name", "aws-api"), attribute.String("aws.s3.bucket", b.name)}
	answers := map[string][]int64{}
	for _, s := range spans {
		if s.Status().Code == codes.Error {
			t.Errorf("%s failed: %s", s.Name(), s.Status().Description)
		}
		var status int64
		for _, a := range s.Attributes() {
			if strings.Contains(a.Value.String(), secret.SecretAccessKey) {
				t.Errorf("the secret is in %s of %s", a.Key, s.Name())
			}
			if a.Key == "http.response.status_code" {
				status = a.Value.AsInt64()
			}
		}
		answers[s.Name()] = append(answers[s.Name()], status)
		expected := want
		if strings.HasPrefix(s.Name(), "S3.") {
			expected = slices.Concat(wantRequest, []attribute.KeyValue{attribute.String("rpc.method", "S3/"+strings.TrimPrefix(s.Name(), "S3."))})
		} else if !strings.HasPrefix(s.Name(), "storage ") {
			continue
		}
		for _, a := range expected {
			if !slices.Contains(s.Attributes(), a) {
				t.Errorf("%s has %v, want %v", s.Name(), s.Attributes(), a)
			}
		}
	}
	if len(answers["storage put"]) != 2 || len(answers["storage stat"]) != 1 ||
		!slices.Equal(answers["S3.PutObject"], []int64{200, 412}) || !slices.Contains(answers["S3.HeadObject"], 404) {
		t.Errorf("the spans have the answers %v", answers)
	}
}

// Some servers give no code: whether the bucket is there is another request, and only that one can fail.
func TestAnObjectThatIsNotThereIsNoErrorWithoutACodeEither(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	proxy := testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
		object := strings.HasSuffix(r.URL.Path, "/default/x.db")
		if object {
			w.WriteHeader(http.StatusNotFound)
		}
		return object
	})
	back := b.backend(t, proxy.Addr(), "")
	spans := traced(t, func(ctx context.Context) {
		if _, err := back.Stat(ctx, "default/x.db"); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("the server has answered that it is not there: %v", err)
		}
	})
	var names []string
	for _, s := range spans {
		names = append(names, s.Name())
		if s.Status().Code == codes.Error {
			t.Errorf("%s failed: %s", s.Name(), s.Status().Description)
		}
	}
	for _, name := range []string{"S3.HeadObject", "S3.GetObject", "S3.HeadBucket"} {
		if !slices.Contains(names, name) {
			t.Errorf("there are the spans %q, and no %s", names, name)
		}
	}
}

// What nobody expects is an error of the request, with the code that the server gave.
func TestARequestThatFailsIsAnErrorOfItsSpan(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	proxy := testenv.StartHTTPProxy(t, b.Addr(), func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == http.MethodPut:
			refuse(w, http.StatusPreconditionFailed, "PreconditionFailed") // there was no condition
		case r.URL.Query().Has("list-type"):
			refuse(w, http.StatusNotFound, "NoSuchBucket")
		default:
			return false
		}
		return true
	})
	back := b.backend(t, proxy.Addr(), "")
	spans := traced(t, func(ctx context.Context) {
		if err := put(ctx, back, "default/x.db", 1); err == nil {
			t.Error("it was put")
		}
		for _, err := range back.List(ctx, "") {
			if err == nil {
				t.Error("it was listed")
			}
		}
	})
	failed := failures(spans)
	if failed["S3.PutObject"] != "PreconditionFailed" || failed["S3.ListObjectsV2"] != "NoSuchBucket" {
		t.Errorf("the spans of the requests that failed are %v", failed)
	}
}

// A request without an answer has the class of its error, as the spans of other rooms do.
func TestARequestWithoutAnAnswerHasTheClassOfItsError(t *testing.T) {
	b := newBucket(testenv.SharedS3(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	proxy := testenv.StartHTTPProxy(t, b.Addr(), func(_ http.ResponseWriter, r *http.Request) bool {
		cancel()
		<-r.Context().Done()
		return true
	})
	back := b.backend(t, proxy.Addr(), "")
	spans := traced(t, func(run context.Context) {
		run, end := context.WithCancel(run)
		defer end()
		defer context.AfterFunc(ctx, end)()
		for _, err := range back.List(run, "") {
			if err == nil {
				t.Error("it was listed")
			}
		}
	})
	if failed := failures(spans); failed["S3.ListObjectsV2"] != "CANCELLED" {
		t.Errorf("the spans of the requests that failed are %v", failed)
	}
}

// failures returns the classes of the errors of requests.
func failures(spans []sdktrace.ReadOnlySpan) map[string]string {
	failed := map[string]string{}
	for _, s := range spans {
		if !strings.HasPrefix(s.Name(), "S3.") || s.Status().Code != codes.Error {
			continue
		}
		for _, a := range s.Attributes() {
			if a.Key == "error.type" {
				failed[s.Name()] = a.Value.AsString()
			}
		}
	}
	return failed
}
