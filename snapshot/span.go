package snapshot

import (
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

var tracer = otel.Tracer("github.com/snapshotd/snapshotd/snapshot")

// endSpan ends the span of what has ended with err.
func endSpan(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, string(ReasonOf(err)))
	}
	span.End()
}
