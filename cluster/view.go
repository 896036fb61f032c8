package cluster

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// view is one backend as a reconciliation sees it.
type view struct {
	repo   *repository.Repository
	cursor *cursor[*repository.Group]
	store  string // id of the store that is listed; empty where validate_only found a new one
	known  bool   // the listing works so far: an object that it does not show is not there
	took   time.Duration
	report BackendReport
}

// openViews checks the stores and begins the listings, side by side.
func (r *reconciliation) openViews(ctx context.Context) {
	var wg sync.WaitGroup
	for _, v := range r.views {
		wg.Go(func() {
			begin := r.c.cfg.Now()
			if err := v.repo.Verified(ctx, !r.req.ValidateOnly); err != nil {
				v.took = r.c.cfg.Now().Sub(begin)
				r.fail(v, err)
				return
			}
			v.store = v.repo.StoreID()
			v.known = true
			v.cursor = newCursor(r.prefetch(ctx, v), func(g *repository.Group) string { return snapshot.OrderKey(g.Name) })
			r.advance(v)
		})
	}
	wg.Wait()
}

func (r *reconciliation) closeViews(ctx context.Context) {
	for _, v := range r.views {
		if v.cursor != nil {
			v.cursor.stop()
		}
		err := v.report.Err
		if err == nil {
			err = ctx.Err()
		}
		r.c.observe(ctx, snapshot.Event{Type: snapshot.EventListed, Backend: v.repo.Name(), Kind: v.repo.Kind(), Duration: v.took, Err: err})
	}
}

// prefetch runs the listing in a goroutine of its own, so that the backends are listed side by side, and measures the
// time that is spent in the backend.
func (r *reconciliation) prefetch(ctx context.Context, v *view) iter.Seq2[*repository.Group, error] {
	type listed struct {
		o   repository.Object
		err error
	}
	objects := func(yield func(repository.Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		ch := make(chan listed, 1000)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			defer close(ch)
			mark := r.c.cfg.Now()
			for o, err := range v.repo.List(ctx) {
				v.took += r.c.cfg.Now().Sub(mark)
				select {
				case ch <- listed{o, err}:
				case <-ctx.Done():
					return
				}
				mark = r.c.cfg.Now()
			}
			v.took += r.c.cfg.Now().Sub(mark)
		})
		for l := range ch {
			if !yield(l.o, l.err) {
				return
			}
		}
	}
	return v.repo.Groups(objects, func(key string) { r.countForeign(ctx, v, key) })
}

// advance moves a view to its next snapshot. After a listing that fails, nothing that it has not shown is known.
func (r *reconciliation) advance(v *view) {
	v.cursor.advance()
	if v.cursor.err != nil {
		v.known = false
		r.fail(v, v.cursor.err)
	}
}

// viewOf returns the view of a backend, or nil.
func (r *reconciliation) viewOf(backend string) *view {
	if i := r.indexOf(backend); i >= 0 {
		return r.views[i]
	}
	return nil
}

func (r *reconciliation) indexOf(backend string) int {
	for i, v := range r.views {
		if v.repo.Name() == backend {
			return i
		}
	}
	return -1
}

// fail notes why a backend could not be reconciled; the first error stands.
func (r *reconciliation) fail(v *view, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.report.Err == nil {
		v.report.Err = err
	}
}

func (r *reconciliation) failed(v *view) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return v.report.Err != nil
}

// countForeign counts an object that is not one of ours. It is left alone.
func (r *reconciliation) countForeign(ctx context.Context, v *view, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v.report.Foreign++
	r.c.log.DebugContext(ctx, "object is no snapshot of ours", "backend", v.repo.Name(), "key", key)
}

func (r *reconciliation) countForeignGroup(ctx context.Context, v *view, g *repository.Group) {
	for _, o := range g.Objects {
		r.countForeign(ctx, v, o.Key)
	}
	if g.Manifest {
		r.countForeign(ctx, v, v.repo.Prefix()+snapshot.ManifestKey(g.Name))
	}
}

// change is the effect of one name on the reports; it counts only when the catalog took it.
type change struct {
	listed, unchanged, added, updated, removed []bool   // by view
	retired                                    []string // backends of nodes that are gone
}

func newChange(n int) *change {
	b := make([]bool, 5*n)
	return &change{listed: b[:n], unchanged: b[n : 2*n], added: b[2*n : 3*n], updated: b[3*n : 4*n], removed: b[4*n:]}
}

// note counts a location as updated or unchanged.
func (ch *change) note(i int, changed bool) {
	if changed {
		ch.updated[i] = true
	} else {
		ch.unchanged[i] = true
	}
}

// add counts a change.
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

// timeMemory remembers a time of each copy: when the manifest that this process has read was written, so that a store whose
// clock is ahead does not have all of them read at each reconciliation, and when this process has scrubbed it.
type timeMemory struct {
	mu sync.Mutex
	at map[string]time.Time // by backend and name
}

// of returns the time of a copy; zero when there is none.
func (m *timeMemory) of(backend, name string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[backend+"/"+name]
}

func (m *timeMemory) remember(backend, name string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at == nil {
		m.at = map[string]time.Time{}
	}
	m.at[backend+"/"+name] = at
}
