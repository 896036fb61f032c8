// Package span makes the traces of the service: one run of anything is one trace.
//
// A run (a call of the API, a scheduled save, a reconcile, a scrub, a repair) begins a trace, or goes on with its
// caller's. Everything else is a span of a run, or none at all: questions that a replica asks every few seconds for as
// long as it lives (who leads, the renewal of a lease, listings that look for work) would bury the runs.
//
// An error is recorded once, on the span where it happened. The spans above it have the status and the type of it.
package span

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"
)

// The attributes that spans of several rooms have. They are the labels of the metrics.
const (
	Cluster  = attribute.Key("cluster")
	Schedule = attribute.Key("schedule")
	Snapshot = attribute.Key("snapshot")
	Backend  = attribute.Key("backend")
)

// errorType is the attribute for the class of an error, as the conventions of OpenTelemetry name it.
const errorType = attribute.Key("error.type")

// scope is the instrumentation scope of the spans.
const scope = "github.com/snapshotd/snapshotd"

// Span is a span that has begun. Its methods may be called at once from several goroutines.
type Span struct {
	trace.Span
	book *book
}

// book notes which classes of errors were recorded on a span or below it.
type book struct {
	above *book

	mu       sync.Mutex
	recorded map[string]bool
}

type bookKey struct{}

// Run begins a run: a span of the trace in ctx or, when there is none, a trace of its own.
func Run(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, *Span) {
	return begin(ctx, otel.Tracer(scope), name, trace.WithAttributes(attrs...))
}

// Start begins a span of the run in ctx. Outside of a run it does nothing.
func Start(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, *Span) {
	return begin(ctx, Provider().Tracer(scope), name, trace.WithAttributes(attrs...))
}

// Call begins a span, of the run in ctx, that is a call to another system. Outside of a run it does nothing.
func Call(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, *Span) {
	return begin(ctx, Provider().Tracer(scope), name,
		trace.WithAttributes(attrs...), trace.WithSpanKind(trace.SpanKindClient))
}

func begin(ctx context.Context, t trace.Tracer, name string, opts ...trace.SpanStartOption) (context.Context, *Span) {
	above, _ := ctx.Value(bookKey{}).(*book)
	ctx, s := t.Start(ctx, name, opts...)
	span := &Span{s, &book{above: above}}
	return span.In(ctx), span
}

// In returns a context in which the spans that begin are children of s.
func (s *Span) In(ctx context.Context) context.Context {
	return context.WithValue(trace.ContextWithSpan(ctx, s.Span), bookKey{}, s.book)
}

// End ends the span of a call that has ended with err.
func (s *Span) End(err error) {
	s.Fail(err)
	s.Span.End()
}

// Fail notes an error; nil is none. The span goes on.
func (s *Span) Fail(err error) {
	if err == nil {
		return
	}
	class := classOf(err)
	s.SetAttributes(ErrorType(err))
	if s.book.first(class) {
		s.RecordError(err)
		s.SetStatus(codes.Error, err.Error())
		return
	}
	s.SetStatus(codes.Error, class)
}

// first reports whether no error of a class was recorded on this span or below it, and notes that one is, for the spans
// above, too. An error changes its text on the way up, and often its identity, but not its class.
func (b *book) first(class string) bool {
	first := b.note(class)
	for up := b.above; up != nil; up = up.above {
		up.note(class)
	}
	return first
}

// note reports whether a class is new.
func (b *book) note(class string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.recorded == nil {
		b.recorded = map[string]bool{}
	}
	known := b.recorded[class]
	b.recorded[class] = true
	return !known
}

// ErrorType is the attribute for the class of an error, for spans of calls whose errors are not all failures.
func ErrorType(err error) attribute.KeyValue { return errorType.String(classOf(err)) }

// classOf returns the class of an error. "_OTHER" is the conventions' word for one that has none.
func classOf(err error) string {
	var classed interface {
		error
		ErrorType() string
	}
	switch {
	case errors.As(err, &classed):
		return classed.ErrorType()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "CANCELLED"
	}
	return "_OTHER"
}

// Outside returns ctx without its run, for work that outlives the run or is none of its business.
func Outside(ctx context.Context) context.Context {
	ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	return context.WithValue(ctx, bookKey{}, (*book)(nil))
}

// Untraced returns ctx as that of a trace that nobody records, for a look that is repeated for as long as the service
// lives: libraries would make a trace of each of their calls in it.
func Untraced(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx,
		trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{1}, SpanID: [8]byte{1}}))
}

// TraceID returns the id of the trace in ctx, 32 hex digits; empty when there is none.
func TraceID(ctx context.Context) string {
	if id := trace.SpanContextFromContext(ctx).TraceID(); id.IsValid() {
		return id.String()
	}
	return ""
}

// Provider returns OpenTelemetry's global provider for libraries that make spans of their calls: these are spans of a
// run, or none.
func Provider() trace.TracerProvider { return provider{} }

type provider struct{ embedded.TracerProvider }

// Tracer implements [trace.TracerProvider].
func (provider) Tracer(name string, opts ...trace.TracerOption) trace.Tracer {
	return tracer{inner: otel.Tracer(name, opts...)}
}

type tracer struct {
	embedded.Tracer
	inner trace.Tracer
}

// Start implements [trace.Tracer].
func (t tracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, noop.Span{}
	}
	return t.inner.Start(ctx, name, opts...)
}
