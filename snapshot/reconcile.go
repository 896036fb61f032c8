package snapshot

import (
	"context"
	"errors"
	"fmt"
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
