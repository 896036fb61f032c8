package cluster

import (
	"context"

	"github.com/snapshotd/snapshotd/repository"
)

// The upload fallback: a snapshot that no backend took may be the last copy of a cluster that is lost next. It stays on
// the replica's own disk, laid out as on a backend, until a backend takes it (deliver.go). Package fallback says on
// which proof alone it may go, and decides that in one function.

// fallBack stores the snapshot, whole and verified, on this replica's disk when no backend has taken it.
func (t *transfer) fallBack(ctx context.Context) {
	c := t.s.c
	if c.fallback == nil || t.err != nil || ctx.Err() != nil || t.left > 0 {
		return
	}
	if err := t.putFallback(ctx); err != nil {
		c.log.WarnContext(ctx, "snapshot that no backend took is not kept here either", "snapshot", t.s.rec.Name,
			"error", err)
		return
	}
	t.s.rec.SetFallback(c.cfg.Node)
	c.log.WarnContext(ctx, "no backend took the snapshot; it is kept here", "snapshot", t.s.rec.Name,
		"at", c.fallback.URI(t.s.rec.DataKey()))
}

// putFallback stores data and manifest in the fallback, in the order of every backend. A later reader, restore
// included, then needs to know nothing of fallbacks.
func (t *transfer) putFallback(ctx context.Context) error {
	place := t.s.c.fallback
	// It is on the disk of the spool.
	if err := repository.CheckSpace(t.s.c.cfg.SpoolDir, t.s.rec.StoredSize); err != nil {
		return err
	}
	opts := repository.PutDataOptions{SizeHint: t.s.rec.StoredSize, Replace: true}
	if err := place.PutData(ctx, t.s.rec, t.stored.Reader(ctx), opts); err != nil {
		return err
	}
	if err := place.PutManifest(ctx, t.s.rec.Name, t.manifest); err != nil {
		t.undo(ctx, place, t.s.rec.DataKey())
		return err
	}
	return nil
}
