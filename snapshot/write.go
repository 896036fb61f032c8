package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/internal/fault"
)

const dataContentType = "application/octet-stream"

// write puts the snapshot on one backend: store checked, data durable, manifest durable.
func (t *transfer) write(ctx context.Context, i int, size int64) {
	b := t.backends[i]
	begin := t.cfg.Now()
	ctx, span := tracer.Start(ctx, "snapshot write")
	var err error
	defer func() { endSpan(span, err) }()
	span.SetAttributes(attribute.String("backend", b.Name()))

	err = t.put(ctx, b, size)
	t.cfg.Observer.Wrote(ctx, b.Kind(), t.cfg.Now().Sub(begin), err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs[i] = err
	t.locate(i, err)
	if err != nil {
		if t.left--; t.left == 0 && t.cfg.Kept == nil {
			t.cancel(errNoBackendLeft)
		}
	}
	shown := t.rec.Clone()
	t.publish(Event{Type: EventLocationDone, Backend: b.Name(), Snapshot: &shown.Snapshot})
}

func (t *transfer) put(ctx context.Context, b Backend, size int64) error {
	unverified, err := t.openStore(ctx, b, storeCheck{create: true, down: t.uncatalogued})
	if err != nil {
		return err
	}
	if unverified != nil {
		t.log.WarnContext(ctx, "store accepted by its marker alone", "backend", b.Name(), "error", unverified)
	}
	data, manifest := t.key(t.rec.DataKey()), t.key(ManifestKey(t.rec.Name))
	r := &verdictReader{ctx: ctx, t: t, r: t.stored.Reader(ctx), meter: t.meter(b.Name(), 0)}
	err = b.Put(ctx, data, r, PutOptions{ContentType: dataContentType, SizeHint: size, IfAbsent: true})
	if err != nil {
		return err
	}
	fault.Point("data-" + b.Kind().String())
	if err := t.takenOver(ctx); err != nil {
		t.undo(ctx, b, data)
		return err
	}
	err = b.Put(ctx, manifest, bytes.NewReader(t.manifest), PutOptions{ContentType: jsonContentType, SizeHint: int64(len(t.manifest))})
	if err != nil {
		t.undo(ctx, b, manifest, data)
		return err
	}
	fault.Point("manifest-" + b.Kind().String())
	return nil
}

// undo removes what was committed before something failed; what cannot be removed is left to reconcile.
func (t *transfer) undo(ctx context.Context, b Backend, keys ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	for _, key := range keys {
		if err := b.Delete(ctx, key); err != nil {
			t.log.WarnContext(ctx, "trace of a failed write not removed", "backend", b.Name(), "key", key, "error", err)
			return
		}
	}
}

// verdictReader is what a backend reads: the stored spool, whose end it sees only after the verdict.
type verdictReader struct {
	ctx   context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	t     *transfer
	r     io.Reader
	meter *meter
}

func (v *verdictReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.meter.total = v.t.storedTotal.Load()
	v.meter.add(n)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	select {
	case <-v.t.verdict:
	case <-v.ctx.Done():
		return n, context.Cause(v.ctx)
	}
	if v.t.err != nil {
		return n, v.t.err
	}
	return n, io.EOF
}
