package storage

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

var tracer = otel.Tracer("github.com/snapshotd/snapshotd/storage")

// do runs one operation in a span and explains its error.
func (b *Backend) do(ctx context.Context, op, key string, fn func(context.Context) error) error {
	ctx, span := tracer.Start(ctx, "storage "+op, trace.WithAttributes(
		attribute.String("backend", b.name), attribute.String("kind", b.kind.Backend.String()),
		attribute.String("key", key)))
	defer span.End()
	err := fn(ctx)
	if err == nil {
		return nil
	}
	err = b.explain(ctx, op, key, err)
	span.RecordError(err)
	span.SetStatus(codes.Error, err.Error())
	return err
}
