package snapshot

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"
)

// view is one backend as this reconciliation sees it.
type view struct {
	b      Backend
	cursor *cursor[*group]
	store  string // id of the store that is listed; empty where validate_only found a new one
	known  bool   // the listing works so far: what it does not show is not there
	took   time.Duration
	report BackendReport
}

// openViews checks the stores and begins the listings, side by side.
func (r *reconciliation) openViews(ctx context.Context) {
	var wg sync.WaitGroup
	for _, v := range r.views {
		wg.Go(func() {
			begin := r.cfg.Now()
			unverified, err := r.openStore(ctx, v.b, storeCheck{create: !r.dry})
			if err == nil {
				err = unverified
			}
			if err != nil {
				v.took = r.cfg.Now().Sub(begin)
				r.fail(v, err)
				return
			}
			v.store = r.storeOf(v.b)
			v.known = true
			v.cursor = newCursor(r.prefetch(ctx, v))
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
		r.cfg.Observer.Listed(ctx, v.b.Kind(), v.took, err)
	}
}

// prefetch runs the listing in a goroutine of its own, so that the backends are listed side by side, and measures the
// time that is spent in the backend.
func (r *reconciliation) prefetch(ctx context.Context, v *view) iter.Seq2[*group, error] {
	type listed struct {
		o   Object
		err error
	}
	objects := func(yield func(Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		ch := make(chan listed, 1000)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			defer close(ch)
			mark := r.cfg.Now()
			for o, err := range v.b.List(ctx, r.cfg.Prefix) {
				v.took += r.cfg.Now().Sub(mark)
				select {
				case ch <- listed{o, err}:
				case <-ctx.Done():
					return
				}
				mark = r.cfg.Now()
			}
			v.took += r.cfg.Now().Sub(mark)
		})
		for l := range ch {
			if !yield(l.o, l.err) {
				return
			}
		}
	}
	return groups(r.cfg.Prefix, objects, func(key string) { r.foreign(ctx, v, key) })
}

// advance moves a view to its next snapshot. A listing that fails leaves all that it has not shown unknown.
func (r *reconciliation) advance(v *view) {
	v.cursor.advance(func(g *group) string { return OrderKey(g.name) })
	if v.cursor.err != nil {
		v.known = false
		r.fail(v, v.cursor.err)
	}
}

func (r *reconciliation) viewOf(backend string) int {
	return slices.IndexFunc(r.views, func(v *view) bool { return v.b.Name() == backend })
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
