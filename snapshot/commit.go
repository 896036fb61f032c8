package snapshot

import (
	"context"
	"errors"
)

// change is what settling one name does to the reports; it counts only when the catalog took it.
type change struct {
	listed, unchanged, added, updated, removed []bool // by view
}

func newChange(n int) *change {
	b := make([]bool, 5*n)
	return &change{b[:n], b[n : 2*n], b[2*n : 3*n], b[3*n : 4*n], b[4*n:]}
}

// note counts a location as updated or unchanged.
func (ch *change) note(i int, changed bool) {
	if changed {
		ch.updated[i] = true
	} else {
		ch.unchanged[i] = true
	}
}

// commit writes what settling one name has found: rec nil removes the record, write false leaves it as it is. A record
// that somebody changed meanwhile is left to the next reconciliation.
func (r *reconciliation) commit(ctx context.Context, it item, rec *Record, ch *change, write bool) error {
	var err error
	if write && !r.dry {
		switch {
		case rec == nil:
			err = r.cfg.Catalog.Remove(ctx, it.rec)
		case it.rec == nil:
			err = r.cfg.Catalog.Create(ctx, rec)
		default:
			err = r.cfg.Catalog.Update(ctx, rec)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrExists) {
		r.log.DebugContext(ctx, "record changed meanwhile; left to the next reconcile", "snapshot", it.name)
		if it.rec != nil {
			r.byState[it.rec.State]++
		}
		return nil
	}
	if err != nil {
		return err
	}
	if rec != nil {
		r.byState[rec.State]++
		r.noteEtcd(rec)
		if rec.Proven.After(r.proven.Proven) && len(readyBackends(rec)) > 0 {
			r.proven = *rec
		}
	}
	if write {
		r.changes++
	}
	r.want(rec)
	for i, v := range r.views {
		v.report.add(ch, i)
	}
	return nil
}

func (b *BackendReport) add(ch *change, i int) {
	for _, c := range []struct {
		n  *int64
		on bool
	}{{&b.Listed, ch.listed[i]}, {&b.Unchanged, ch.unchanged[i]}, {&b.Added, ch.added[i]}, {&b.Updated, ch.updated[i]}, {&b.Removed, ch.removed[i]}} {
		if c.on {
			*c.n++
		}
	}
}
