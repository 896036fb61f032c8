package storage

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

// do runs one operation in a span and explains its error.
func (b *Backend) do(ctx context.Context, op, key string, fn func(context.Context) error) error {
	begin := span.Call
	if b.kind.Backend == snapshot.BackendLocal {
		begin = span.Start // a directory is no other system
	}
	ctx, trace := begin(ctx, "storage "+op, span.Backend.String(b.name), attribute.String("kind", b.kind.Backend.String()),
		attribute.String("key", key))
	err := fn(ctx)
	if err != nil {
		err = b.explain(ctx, op, key, err)
	}
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonObjectNotFound, snapshot.ReasonObjectExists: // an answer that the caller acts upon
		trace.End(nil)
	default:
		trace.End(err)
	}
	return err
}
