package s3_test

import (
	"errors"
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

func TestOperationsAreTraced(t *testing.T) {
	seen := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(seen)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })

	b := newBucket(testenv.SharedS3(t))
	back := b.backend(t, b.Addr(), "")
	ctx, run := span.Run(t.Context(), "run") // outside of a run, nothing is traced
	if err := put(ctx, back, "default/x.db", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := back.Stat(ctx, "default/y.db"); err == nil {
		t.Fatal("it is there")
	}
	again := back.Put(ctx, "default/x.db", strings.NewReader("x"), repository.PutOptions{ContentType: "a/b", SizeHint: 1, IfAbsent: true})
	if !errors.Is(again, snapshot.ErrExists) {
		t.Fatalf("it was put twice: %v", again)
	}
	run.End(nil)
	secret, err := b.Credentials().Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range seen.Ended() {
		names = append(names, s.Name())
		for _, a := range s.Attributes() {
			if strings.Contains(a.Value.String(), secret.SecretAccessKey) {
				t.Errorf("the secret is in %s of %s", a.Key, s.Name())
			}
		}
		if !strings.HasPrefix(s.Name(), "storage ") {
			continue
		}
		for _, want := range []attribute.KeyValue{attribute.String("backend", "s3"), attribute.String("kind", "s3")} {
			if !slices.Contains(s.Attributes(), want) {
				t.Errorf("%s has %v, want %v", s.Name(), s.Attributes(), want)
			}
		}
		// That an object is not there, or is there already, is an answer, and no failure.
		if s.Status().Code == codes.Error {
			t.Errorf("%s failed: %s", s.Name(), s.Status().Description)
		}
	}
	for _, want := range []string{"storage put", "S3.PutObject", "storage stat", "S3.HeadObject"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no span %q: %q", want, names)
		}
	}
}
