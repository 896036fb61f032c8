package snapshot

import "context"

// sweepOrphans removes data that a failed save left without a manifest: the record says that nobody was ever told that
// it is there. Data without a record may be anybody's and is left in peace, so a record that still claims some is kept:
// sweepOrphans then returns true.
//
// A save that was only taken for dead may wake up and write its manifest at any moment. So only what an earlier
// reconciliation has settled is swept, and the location is first marked DELETING by a change of the record on condition:
// either the save has changed the record before, and nothing is deleted, or it finds the mark, and does not count on the
// data.
func (r *reconciliation) sweepOrphans(ctx context.Context, it item, rec *Record) (left bool, err error) {
	if rec.Trigger == TriggerAdopted {
		return false, nil // nothing of it is ours
	}
	for i, v := range r.views {
		g := it.groups[i]
		data := g.data(r.key(rec.DataKey()))
		if !it.known[i] || data == nil || g.manifest || !orphaned(rec, v.b.Name()) {
			continue
		}
		if it.rec.State == StateSaving || !orphaned(it.rec, v.b.Name()) || r.begin.Sub(data.ModTime) < r.cfg.LeftoverAge {
			left = true
			continue
		}
		gone, err := r.sweepOrphan(ctx, it, v, data.Key)
		if err != nil {
			return true, err
		}
		left = left || !gone
		rec.Version, rec.Etag = it.rec.Version, it.rec.Etag
	}
	return left, nil
}

// orphaned reports whether a location is known never to have held anything that somebody was told of. Of a record that was
// made anew from manifests that is not known.
func orphaned(rec *Record, backend string) bool {
	for _, f := range rec.Failures {
		if f.Backend == backend && f.Reason == ReasonCopyMissing {
			return false
		}
	}
	l := rec.Location(backend)
	return l != nil && (l.State == StateFailed || l.State == StateDeleting) && l.Size == 0
}

// sweepOrphan removes one object. Its error ends the reconciliation of this record.
func (r *reconciliation) sweepOrphan(ctx context.Context, it item, v *view, key string) (gone bool, err error) {
	if _, err := v.b.Stat(ctx, r.key(ManifestKey(it.name))); !isNotFound(err) {
		if err != nil {
			r.fail(v, err)
		}
		return false, nil // it has a manifest by now
	}
	if !r.dry {
		loc := it.rec.Location(v.b.Name())
		loc.State, loc.UpdateTime = StateDeleting, r.begin.UTC()
		if err := r.cfg.Catalog.Update(ctx, it.rec); err != nil {
			return false, err
		}
		if err := v.b.Delete(ctx, key); err != nil {
			r.fail(v, err)
			return false, nil
		}
	}
	r.mu.Lock()
	v.report.Swept++
	r.mu.Unlock()
	return true, nil
}
