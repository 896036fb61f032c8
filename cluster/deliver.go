package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/snapshotd/snapshotd/cluster/fallback"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

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
