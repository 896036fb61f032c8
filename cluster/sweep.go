package cluster

import (
	"context"
	"strings"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// sweep removes the leftovers of crashed writers. A backend that failed as a whole is left alone: a listing that is not
// whole does not show which files belong to a snapshot.
func (r *reconciliation) sweep(ctx context.Context) {
	opts := repository.SweepOptions{OlderThan: r.begin.Add(-r.c.cfg.LeftoverAge), DryRun: r.req.ValidateOnly,
		Keep: r.inUse}
	for _, v := range r.views {
		if r.cmp.unseen(v) {
			continue
		}
		n, err := v.repo.Sweep(ctx, opts)
		swept := r.cmp.swept(v, n)
		if err != nil {
			r.cmp.failObject(v, err)
		}
		if swept > 0 && !r.req.ValidateOnly {
			r.c.observe(ctx, snapshot.Event{Type: snapshot.EventSwept, Backend: v.repo.Name(), Count: swept})
			r.c.log.InfoContext(ctx, "leftovers swept", "backend", v.repo.Name(), "count", swept)
		}
	}
}

// inUse reports whether a key belongs to a save under way. A key that is none of a snapshot is left alone as well: it
// may be another program's.
func (r *reconciliation) inUse(key string) bool {
	key, ours := strings.CutPrefix(key, r.c.cfg.Prefix)
	name, _, ok := snapshot.SplitKey(key)
	if !ours || !ok {
		return true
	}
	r.mu.Lock()
	busy := r.busy[name]
	r.mu.Unlock()
	return busy || r.c.inflight.Has(name)
}

// sweepOrphans removes data that a failed save left without a manifest: the record says that no caller was ever told
// about it. Data without a record may be another program's and is left alone, so a record that still claims some is
// kept: sweepOrphans then returns true.
//
// A save that was only taken for dead may wake up and write its manifest at any moment. So data is swept only if an
// earlier reconciliation has ended the save in its record, and the location is first marked DELETING by a conditional
// change of the record: either the save has changed the record before, and nothing is deleted, or it finds the mark,
// and does not count on the data.
func (r *reconciliation) sweepOrphans(ctx context.Context, it item, rec *snapshot.Record) (left bool, err error) {
	if rec.Trigger == snapshot.TriggerAdopted || rec.MayBeForeign() {
		return false, nil // it is another program's, or may be
	}
	for i, v := range r.views {
		data := v.repo.DataOf(it.groups[i], rec)
		if !it.known[i] || data == nil || it.groups[i].Manifest || !rec.Orphaned(v.repo.Name()) {
			continue
		}
		if it.rec.State() == snapshot.StateSaving || !it.rec.Orphaned(v.repo.Name()) ||
			r.begin.Sub(data.ModTime) < r.c.cfg.LeftoverAge {
			left = true
			continue
		}
		gone, err := r.sweepOrphan(ctx, it, v)
		if err != nil {
			return true, err
		}
		left = left || !gone
		rec.Version, rec.Etag = it.rec.Version, it.rec.Etag
	}
	return left, nil
}

// sweepOrphan removes one object. Its error ends the reconciliation of this record.
func (r *reconciliation) sweepOrphan(ctx context.Context, it item, v *view) (gone bool, err error) {
	// The listing is minutes old by now, and a save that woke up may have written the manifest since.
	if found, err := v.repo.HasManifest(ctx, it.name); found || err != nil {
		if err != nil {
			r.cmp.failObject(v, err)
		}
		return false, nil // it has a manifest meanwhile
	}
	if !r.req.ValidateOnly {
		it.rec.Deleting(v.repo.Name(), r.begin)
		if err := r.c.cfg.Records.Update(ctx, it.rec); err != nil {
			return false, err
		}
		if err := v.repo.DeleteFiles(ctx, it.rec.DataKey()); err != nil {
			r.cmp.failObject(v, err)
			return false, nil
		}
	}
	r.cmp.swept(v, 1)
	return true, nil
}
