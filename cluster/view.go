package cluster

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/merge"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// view is one backend as a reconciliation sees it.
type view struct {
	repo   *repository.Repository
	cursor *merge.Cursor[*repository.Group]
	store  string        // id of the store that is listed; empty where validate_only found a new one
	known  bool          // the listing works so far: an object that it does not show is not there
	took   time.Duration // that was spent waiting for the backend, for the metric
	report BackendReport
}

// comparison compares records with some backends. A reconciliation does so with all of them, a save that takes over
// with the locations of one record. It notes errors and numbers in the reports of the views.
type comparison struct {
	c            *Cluster
	begin        time.Time // of all locations that it finds
	validateOnly bool
	views        []*view
	mu           sync.Mutex // guards the reports
}

func newComparison(c *Cluster, views []*view, validateOnly bool) *comparison {
	return &comparison{c: c, begin: c.cfg.Now(), validateOnly: validateOnly, views: views}
}

// openViews checks the stores and begins the listings, side by side.
func (r *reconciliation) openViews(ctx context.Context) {
	var wg sync.WaitGroup
	for _, v := range r.views {
		wg.Go(func() {
			begin := r.c.cfg.Now()
			if err := v.repo.OpenVerified(ctx, !r.req.ValidateOnly); err != nil {
				v.took = r.c.cfg.Now().Sub(begin)
				r.cmp.fail(v, err)
				return
			}
			// The store may be exchanged while it is listed, when a disk is unmounted. Before anything is forgotten,
			// the marker is compared with this id.
			v.store = v.repo.StoreID()
			v.known = true
			v.cursor = merge.NewCursor(r.prefetch(ctx, v), func(g *repository.Group) string { return snapshot.OrderKey(g.Name) })
			r.advance(v)
		})
	}
	wg.Wait()
}

// closeViews ends the listings, and reports how each of them went. A listing that was cut off by the end of the call
// counts as failed: its duration would be too good.
func (r *reconciliation) closeViews(ctx context.Context) {
	for _, v := range r.views {
		if v.cursor != nil {
			v.cursor.Stop()
		}
		err := v.report.Err
		if err == nil {
			err = ctx.Err()
		}
		r.c.observe(ctx,
			snapshot.Event{Type: snapshot.EventListed, Backend: v.repo.Name(), Kind: v.repo.Kind(), Duration: v.took, Err: err})
	}
}

// prefetch lists one backend ahead of the merge, and measures the time that is spent in it.
func (r *reconciliation) prefetch(ctx context.Context, v *view) iter.Seq2[*repository.Group, error] {
	objects := merge.Ahead(ctx, v.repo.List, 1000, r.c.cfg.Now, func(d time.Duration) { v.took += d })
	return v.repo.Groups(objects, func(key string) { r.cmp.countForeign(ctx, v, key) })
}

// advance moves a view to its next snapshot. After a listing that fails, nothing that it has not shown is known.
func (r *reconciliation) advance(v *view) {
	v.cursor.Advance()
	if v.cursor.Err != nil {
		v.known = false
		r.cmp.fail(v, v.cursor.Err)
	}
}

// viewOf returns the view of a backend; nil when it was not chosen.
func (x *comparison) viewOf(backend string) *view {
	if i := x.indexOf(backend); i >= 0 {
		return x.views[i]
	}
	return nil
}

// indexOf returns the place of a backend among the views; -1 when it was not chosen.
func (x *comparison) indexOf(backend string) int {
	for i, v := range x.views {
		if v.repo.Name() == backend {
			return i
		}
	}
	return -1
}

// fail notes why a backend could not be reconciled; the first error stands. Later ones usually follow from it, and
// would hide the cause.
func (x *comparison) fail(v *view, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	v.report.Unseen = true
	if v.report.Err == nil {
		v.report.Err = err
	}
}

// failObject notes why something on a backend could not be reconciled, also one object of another program that cannot
// be read. It is an error of the backend, which a person has to look at, and keeps nothing else there from being
// reconciled, pruned and swept: such an object may stay for years.
func (x *comparison) failObject(v *view, err error) {
	if snapshot.ReasonOf(err) == snapshot.ReasonBackendWrongStore {
		x.fail(v, err) // no object there is the one that was listed
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if v.report.Err == nil {
		v.report.Err = err
	}
}

// warn logs an error about one name on a backend.
func (x *comparison) warn(ctx context.Context, v *view, message, name string, err error) {
	x.c.log.WarnContext(ctx, message, "backend", v.repo.Name(), "snapshot", name, "error", err)
}

// unseen reports whether a backend has failed as a whole so far.
func (x *comparison) unseen(v *view) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return v.report.Unseen
}

// swept counts leftovers that were removed, and returns how many there were so far.
func (x *comparison) swept(v *view, n int64) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	v.report.Swept += n
	return v.report.Swept
}

// countForeign counts an object that is not one of ours. It is left alone: other programs may share the place. Only
// the number is reported, because there may be millions of them.
func (x *comparison) countForeign(ctx context.Context, v *view, key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	v.report.Foreign++
	x.c.log.DebugContext(ctx, "object is no snapshot of ours", "backend", v.repo.Name(), "key", key)
}

// countForeignGroup counts all objects of a name that is no snapshot of ours.
func (x *comparison) countForeignGroup(ctx context.Context, v *view, g *repository.Group) {
	for _, o := range g.Objects {
		x.countForeign(ctx, v, o.Key)
	}
	if g.Manifest {
		x.countForeign(ctx, v, v.repo.Prefix()+snapshot.ManifestKey(g.Name))
	}
}

// effect is the effect of one name on the reports. It counts only when the catalog took it.
type effect struct {
	on      []outcome // by view
	retired []string  // backends of nodes that are gone
}

// outcome is the effect on the report of one backend.
type outcome struct{ listed, unchanged, added, updated, removed bool }

// newEffect returns no effect yet, on this many views.
func newEffect(n int) *effect { return &effect{on: make([]outcome, n)} }

// note counts a location as updated or unchanged.
func (e *effect) note(i int, changed bool) {
	o := &e.on[i]
	o.updated, o.unchanged = o.updated || changed, o.unchanged || !changed
}

// count adds the effect of one name to the reports.
func (x *comparison) count(e *effect) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, v := range x.views {
		v.report.add(e.on[i])
	}
}

// add counts an outcome.
func (b *BackendReport) add(o outcome) {
	count := func(n *int64, on bool) {
		if on {
			*n++
		}
	}
	count(&b.Listed, o.listed)
	count(&b.Unchanged, o.unchanged)
	count(&b.Added, o.added)
	count(&b.Updated, o.updated)
	count(&b.Removed, o.removed)
}
