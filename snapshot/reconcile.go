package snapshot

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sync/errgroup"
)

// reconcileWorkers is how many snapshots are settled at the same time. Only those that changed cost a request.
const reconcileWorkers = 16

// Reconcile makes the catalog tell the truth about the backends: one merge of the catalog's scan with the backends'
// listings, all in the same order. A backend that fails is reported, and nothing that it holds is forgotten. The error
// is that of the whole: the catalog cannot be read or written, or the call was cancelled.
func (c *Cluster) Reconcile(ctx context.Context, req ReconcileRequest) (reports []BackendReport, err error) {
	backends, err := c.choose(req.Backends)
	if err != nil {
		return nil, err
	}
	begin := c.cfg.Now()
	ctx, span := tracer.Start(ctx, "snapshot reconcile")
	span.SetAttributes(attribute.String("cluster", c.cfg.Name), attribute.Bool("validate_only", req.ValidateOnly), attribute.Bool("repair", req.Repair))
	defer func() {
		failed := err
		for _, r := range reports {
			failed = errors.Join(failed, r.Err)
		}
		c.cfg.Observer.Reconciled(ctx, c.cfg.Name, c.cfg.Now().Sub(begin), failed)
		endSpan(span, failed)
	}()
	r := &reconciliation{Cluster: c, dry: req.ValidateOnly, repairs: req.Repair, begin: begin, byState: map[State]int64{}, busy: map[string]bool{}, etcds: map[string]era{}}
	for _, b := range backends {
		r.views = append(r.views, &view{b: b, report: BackendReport{Cluster: c.cfg.Name, Backend: b.Name()}})
	}
	err = r.run(ctx)
	for _, v := range r.views {
		reports = append(reports, v.report)
	}
	if err != nil {
		return reports, err
	}
	r.logEnd(ctx)
	return reports, nil
}

// logEnd writes the line that every reconcile leaves, also one that nobody waits for.
func (r *reconciliation) logEnd(ctx context.Context) {
	var failed []error
	for _, v := range r.views {
		if v.report.Err != nil {
			failed = append(failed, v.report.Err)
		}
	}
	attrs := []any{"duration", r.cfg.Now().Sub(r.begin), "validate_only", r.dry, "changes", r.changes, "repair", r.repairs}
	if len(failed) == 0 {
		r.log.InfoContext(ctx, "reconciled", attrs...)
		return
	}
	attrs = append(attrs, "backends_failed", len(failed), "backends", len(r.views), "error", errors.Join(failed...))
	r.log.WarnContext(ctx, "reconciled without all backends", attrs...)
}

// reconciliation is one Reconcile under way.
type reconciliation struct {
	*Cluster
	dry     bool
	repairs bool
	begin   time.Time
	views   []*view

	mu      sync.Mutex // guards what follows and the views' reports
	byState map[State]int64
	proven  Record          // the one that a drill has proven last
	etcds   map[string]era  // by the id of the etcd cluster: from when to when it was saved
	busy    map[string]bool // names that somebody is saving: what is theirs is no leftover
	changes int64
	wanted  []missing // what is to be repaired
}

// view is one backend as this reconciliation sees it.
type view struct {
	b      Backend
	cursor *cursor[*group]
	store  string // id of the store that is listed; empty where validate_only found a new one
	known  bool   // the listing works so far: what it does not show is not there
	took   time.Duration
	report BackendReport
}

// item is one name, with all that is known of it.
type item struct {
	name   string
	rec    *Record  // nil when the catalog has none
	groups []*group // of the views, nil where nothing is listed
	known  []bool   // of the views
}

func (r *reconciliation) run(ctx context.Context) error {
	records := newCursor(r.cfg.Catalog.Scan(ctx))
	defer records.stop()
	// The catalog's revision is pinned before the listings begin: whatever the scan shows as READY was there already
	// when they did.
	byRecord := func(rec *Record) string { return OrderKey(rec.Name) }
	if records.advance(byRecord); records.err != nil {
		return records.err
	}
	r.openViews(ctx)
	defer r.closeViews(ctx)

	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(reconcileWorkers)
	for gctx.Err() == nil {
		it, ok := r.nextItem(records, byRecord)
		if !ok {
			break
		}
		group.Go(func() error { return r.settle(gctx, it) })
	}
	err := group.Wait()
	switch {
	case ctx.Err() != nil:
		return cancelled(ctx, fmt.Sprintf("reconcile cluster %q", r.cfg.Name))
	case err != nil:
		return err
	case records.err != nil:
		return records.err
	}
	r.forgetForeign()
	r.tellApart(ctx)
	r.sweep(ctx)
	if err := r.repair(ctx); err != nil {
		return err
	}
	if !r.dry {
		r.cfg.Observer.Counted(ctx, r.cfg.Name, r.byState)
		r.cfg.Observer.Proven(ctx, r.cfg.Name, r.proven.Revision, r.proven.Proven)
	}
	return nil
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
		if err == nil && ctx.Err() != nil {
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

// nextItem takes the smallest name off all streams.
func (r *reconciliation) nextItem(records *cursor[*Record], byRecord func(*Record) string) (item, bool) {
	least := records.key
	for _, v := range r.views {
		if v.cursor != nil && v.cursor.key != "" && (least == "" || v.cursor.key < least) {
			least = v.cursor.key
		}
	}
	if least == "" || records.err != nil {
		return item{}, false
	}
	it := item{name: least[:len(least)-len(orderSuffix)], groups: make([]*group, len(r.views)), known: make([]bool, len(r.views))}
	for i, v := range r.views {
		// known is asked before the view moves on: it speaks of what the listing has shown up to this name.
		it.known[i] = v.known
		if v.cursor != nil && v.cursor.key == least {
			it.groups[i] = v.cursor.cur
			r.advance(v)
		}
	}
	if records.key == least {
		it.rec = records.cur
		records.advance(byRecord)
	}
	return it, true
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

func (r *reconciliation) foreign(ctx context.Context, v *view, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v.report.Foreign++
	r.log.DebugContext(ctx, "object is no snapshot of ours", "backend", v.b.Name(), "key", key)
}

// sweep removes what crashed writers left. A backend that failed is left alone.
func (r *reconciliation) sweep(ctx context.Context) {
	opts := SweepOptions{OlderThan: r.begin.Add(-r.cfg.LeftoverAge), DryRun: r.dry, Keep: r.keep}
	for _, v := range r.views {
		if r.failed(v) {
			continue
		}
		n, err := v.b.Sweep(ctx, r.cfg.Prefix, opts)
		r.mu.Lock()
		v.report.Swept += n
		swept := v.report.Swept
		r.mu.Unlock()
		if err != nil {
			r.fail(v, err)
		}
		if swept > 0 && !r.dry {
			r.cfg.Observer.Swept(ctx, r.cfg.Name, v.b.Name(), swept)
			r.log.InfoContext(ctx, "leftovers swept", "backend", v.b.Name(), "count", swept)
		}
	}
}

// keep reports whether a key belongs to a save under way.
func (r *reconciliation) keep(key string) bool {
	if len(key) < len(r.cfg.Prefix) {
		return false
	}
	name, _, ok := splitKey(key[len(r.cfg.Prefix):])
	if !ok {
		return true
	}
	r.mu.Lock()
	busy := r.busy[name]
	r.mu.Unlock()
	return busy || r.isSaving(name)
}
