package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/snapshotd/snapshotd/cluster/fallback"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The upload fallback: a snapshot that no backend took may be the last copy of a cluster that is lost next. It stays on
// the replica's own disk, laid out as on a backend, until a backend takes it. Package fallback says on which proof alone
// it may go, and decides that in one function.

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

// hasFallback reports whether this replica has the snapshot of a record as its upload fallback.
func (c *Cluster) hasFallback(rec *snapshot.Record) bool {
	return c.fallback != nil && c.node.HasFallback(rec)
}

// UploadFallback brings the snapshots that this replica has in its upload fallback to the backends that should hold
// them, as far as attempts are due: each to one of them, from which repair makes the other copies. Those that need not
// stay are removed. It returns when to call again; the zero time when nothing stays. The error is that of the catalog,
// of the disk or of ctx; a backend that still does not take a snapshot is logged. A snapshot that cannot be removed
// from the disk is an error that keeps no other one from being delivered.
func (c *Cluster) UploadFallback(ctx context.Context) (next time.Time, err error) {
	if c.fallbacks == nil || c.inflight.Saving() {
		return time.Time{}, nil
	}
	stay, err := c.fallbacks.Reconcile(span.Untraced(ctx))
	tried := false
	for _, k := range stay {
		attempt, derr := c.deliver(ctx, k)
		if derr != nil {
			return time.Time{}, errors.Join(err, derr)
		}
		tried = tried || attempt
	}
	// The end of an attempt is no proof: what has come of it is looked at like everything else.
	if tried {
		stay, err = c.fallbacks.Reconcile(span.Untraced(ctx))
	}
	if err != nil {
		return time.Time{}, err
	}
	for _, k := range stay {
		if due := k.Due(c.repos, c.cfg.Now()); next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next, nil
}

// deliver makes the attempts at one snapshot that are due, until one does not fail, and reports whether there was any.
// One backend is enough: the leader's repair then makes the other copies from there, and this disk is free again.
func (c *Cluster) deliver(ctx context.Context, k *fallback.Snapshot) (tried bool, err error) {
	if k.Record == nil {
		return false, nil
	}
	for _, r := range fallback.In(c.repos, k.Record, snapshot.StateFailed) {
		if k.Record.RepairDue(r.Name(), c.cfg.Now()).After(c.cfg.Now()) {
			continue
		}
		ctx, run := span.Run(ctx, "deliver", span.Cluster.String(c.cfg.Name), span.Snapshot.String(k.Record.Name))
		m, err := c.tryRepair(ctx, missing{name: k.Record.Name, repo: r}, map[string]bool{})
		run.End(err)
		if tried = true; err != nil || m.name == "" {
			return true, err
		}
	}
	return tried, nil
}
