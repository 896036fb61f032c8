package span_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

// record returns what is made of spans while f runs. The tests share OpenTelemetry's global state.
func record(t *testing.T, f func(ctx context.Context)) tracetest.SpanStubs {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)))
	defer otel.SetTracerProvider(before)
	f(t.Context())
	return exporter.GetSpans()
}

func TestOutsideOfARunThereAreNoSpans(t *testing.T) {
	spans := record(t, func(ctx context.Context) {
		within, call := span.Call(ctx, "poll")
		_, part := span.Start(within, "part of the poll")
		_, library := span.Provider().Tracer("library").Start(within, "request")
		library.End()
		part.End(errors.New("nobody answers"))
		call.End(errors.New("nobody answers"))
		if id := span.TraceID(within); id != "" {
			t.Errorf("the poll has the trace %s", id)
		}
		ctx, run := span.Run(ctx, "run")
		_, lease := span.Call(span.Outside(ctx), "renewal of a lease that the run has taken")
		lease.End(nil)
		_, call = span.Call(ctx, "call")
		call.End(nil)
		run.End(nil)
	})
	if len(spans) != 2 || spans[0].Name != "call" || spans[1].Name != "run" {
		t.Errorf("there are the spans %v", spans.Snapshots())
	}
	if spans[0].Parent.SpanID() != spans[1].SpanContext.SpanID() {
		t.Error("the call is not part of the run")
	}
}

// An error goes up under other texts. One of another class is another one.
func TestAnErrorIsRecordedWhereItHappened(t *testing.T) {
	down := snapshot.ReasonBackendUnavailable.New("put: connection refused")
	full := snapshot.ReasonNoSpace.New("put: no space left")
	spans := record(t, func(ctx context.Context) {
		ctx, run := span.Run(ctx, "run")
		for i, err := range []error{down, full, nil, down} {
			ctx, part := span.Start(ctx, fmt.Sprint("part ", i))
			_, call := span.Call(ctx, fmt.Sprint("call ", i))
			call.End(err)
			if err != nil {
				err = fmt.Errorf("part %d: %w", i, err)
			}
			part.End(err)
		}
		run.End(snapshot.ReasonEtcdUnavailable.New("no member answers").Because(errors.New(down.Error())))
	})
	got := map[string]string{}
	for _, s := range spans {
		got[s.Name] = fmt.Sprintf("%d recorded, %s", len(s.Events), s.Status.Code)
		for _, a := range s.Attributes {
			got[s.Name] += ", " + a.Value.String()
		}
	}
	for name, want := range map[string]string{
		"call 0": "1 recorded, Error, BACKEND_UNAVAILABLE", "part 0": "0 recorded, Error, BACKEND_UNAVAILABLE",
		"call 1": "1 recorded, Error, NO_SPACE", "part 1": "0 recorded, Error, NO_SPACE",
		"call 2": "0 recorded, Unset", "part 2": "0 recorded, Unset",
		"call 3": "1 recorded, Error, BACKEND_UNAVAILABLE", "part 3": "0 recorded, Error, BACKEND_UNAVAILABLE",
		"run": "1 recorded, Error, ETCD_UNAVAILABLE",
	} {
		if got[name] != want {
			t.Errorf("%s: %s; want %s", name, got[name], want)
		}
	}
}
