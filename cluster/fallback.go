package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The upload fallback: a snapshot that no backend took may be the last copy of a cluster that is lost next. The
// newest such snapshot of a cluster stays on the replica's own disk, laid out as on a backend, until a backend takes
// it or a newer snapshot was stored.

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

// UploadFallback uploads the snapshot that this replica has as its fallback to the backends that should hold it, as far
// as attempts are due: to one of them at least, from which repair makes the other copies. It returns when to try again;
// the zero time when there is none. The error is that of the catalog, of the disk or of ctx; a backend that still does
// not take it is logged.
func (c *Cluster) UploadFallback(ctx context.Context) (next time.Time, err error) {
	if c.fallback == nil || c.inflight.Saving() {
		return time.Time{}, nil
	}
	entries, err := c.fallback.Entries(ctx)
	if err != nil || len(entries) == 0 {
		return time.Time{}, err
	}
	// Only the newest one is kept: the disk of a replica has room for one, and a newer snapshot makes the older one
	// useless.
	for _, old := range entries[1:] {
		err := c.dropOlder(ctx, old)
		if errors.Is(err, snapshot.ErrBadRecord) {
			c.log.WarnContext(ctx, "older upload fallback stays: its record cannot be read", "snapshot", old.Name, "error", err)
			continue
		}
		if err != nil {
			return time.Time{}, err
		}
	}
	rec, err := c.fallbackRecord(ctx, entries[0])
	if err != nil {
		return time.Time{}, err
	}
	if rec == nil {
		return time.Time{}, c.dropFallback(ctx, entries[0])
	}
	return c.uploadFallback(ctx, rec, entries[0])
}

// uploadFallback makes the attempts at one snapshot that are due. One backend is enough: the leader's repair then makes
// the other copies from there, and this disk is free again.
func (c *Cluster) uploadFallback(
	ctx context.Context, rec *snapshot.Record, e repository.Entry,
) (next time.Time, err error) {
	for _, r := range c.repos {
		l := rec.Location(r.Name())
		if l == nil || l.State != snapshot.StateFailed {
			continue
		}
		due := rec.RepairDue(r.Name(), c.cfg.Now())
		if !due.After(c.cfg.Now()) {
			ctx, run := span.Run(ctx, "deliver", span.Cluster.String(c.cfg.Name), span.Snapshot.String(rec.Name))
			m, err := c.tryRepair(ctx, missing{name: rec.Name, repo: r}, map[string]bool{})
			run.End(err)
			switch {
			case err != nil:
				return time.Time{}, err
			case m.name == "":
				return time.Time{}, c.dropFallback(ctx, e)
			}
			due = m.due
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next, nil
}

// fallbackRecord returns the record of the fallback; nil when it is not needed any more, because a backend holds it,
// it was deleted, or a newer snapshot was stored. A catalog that does not know it, as it was down or came back from
// the past, gets its record.
func (c *Cluster) fallbackRecord(ctx context.Context, e repository.Entry) (*snapshot.Record, error) {
	// A time in the future was set by a wrong clock, and says nothing about which snapshot is newer.
	until := c.cfg.Now().Add(snapshot.ClockTolerance)
	stored := []snapshot.State{snapshot.StateReady, snapshot.StatePartial}
	newest, err := c.cfg.History.List(ctx, snapshot.Query{States: stored, Until: until, PageSize: 1})
	if err != nil {
		return nil, err
	}
	// Names have whole seconds.
	superseded := len(newest.Records) > 0 && newest.Records[0].CreateTime.After(e.Time.Add(time.Second))
	rec, err := c.cfg.Records.Get(ctx, e.Name)
	switch {
	case snapshot.IsNotFound(err) && superseded:
		return nil, nil //nolint:nilnil // it is not needed any more
	case snapshot.IsNotFound(err):
		return c.recordFallback(ctx, e)
	case err != nil:
		return nil, err
	case rec.State() != snapshot.StateFailed || rec.SupersededBy() != "":
		return nil, nil //nolint:nilnil // it is not needed any more
	case superseded: // a newer snapshot is stored, and this one is worth its room no more
		rec.SetFallback("")
		return nil, c.cfg.Records.Update(ctx, rec)
	case rec.FallbackNode() == c.cfg.Node:
		return rec, nil
	}
	rec.SetFallback(c.cfg.Node) // its save was killed before it could say so
	return rec, c.cfg.Records.Update(ctx, rec)
}

// recordFallback makes the record of the fallback from its manifest.
func (c *Cluster) recordFallback(ctx context.Context, e repository.Entry) (*snapshot.Record, error) {
	found, err := c.fallback.Record(ctx, e)
	if err == nil && found.Trigger == snapshot.TriggerAdopted {
		err = errors.New("it has no manifest")
	}
	if err != nil {
		c.log.WarnContext(ctx, "upload fallback is no snapshot", "snapshot", e.Name, "error", err)
		return nil, nil //nolint:nilnil // nothing can be made of it
	}
	rec := found.Copy()
	if rec.RequestID != "" && rec.EtcdClusterID != c.liveEtcd(ctx) {
		rec.RequestID = ""
	}
	// The fallback is no location: it is this replica's own, and only this replica can read it.
	rec.Drop(func(snapshot.Location) bool { return true })
	rec.SetFallback(c.cfg.Node)
	for _, r := range c.repos {
		l := r.Location(rec, c.cfg.Now())
		l.Error = "it did not take the snapshot"
		rec.Missed(l, snapshot.ReasonCopyMissing)
	}
	return rec, c.cfg.Records.Create(ctx, rec)
}

// dropOlder gives up the fallback of a snapshot because there is one of a newer snapshot.
func (c *Cluster) dropOlder(ctx context.Context, e repository.Entry) error {
	rec, err := c.cfg.Records.Get(ctx, e.Name)
	if err == nil && c.hasFallback(rec) {
		rec.SetFallback("")
		err = c.cfg.Records.Update(ctx, rec)
	}
	if err != nil && !snapshot.IsNotFound(err) {
		return err
	}
	return c.dropFallback(ctx, e)
}

// dropFallback removes the files of a fallback. It comes last: until then a crash leaves a snapshot too many, and
// never one too few.
func (c *Cluster) dropFallback(ctx context.Context, e repository.Entry) error {
	if err := c.fallback.RemoveEntry(ctx, e); err != nil {
		return err
	}
	c.log.InfoContext(ctx, "snapshot is not kept here any more", "snapshot", e.Name)
	return nil
}
