package cluster

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/cluster/inflight"
	"github.com/snapshotd/snapshotd/internal/merge"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// reconcileWorkers is how many records are reconciled at the same time. Only those that changed cost a request.
const reconcileWorkers = 16

// Reconcile makes the catalog tell the truth about the backends: one merge of the catalog's scan with the backends'
// listings, all in the same order. A backend that fails is reported, and nothing that it holds is forgotten. The error
// is that of the whole: the catalog cannot be read or written, or the call was cancelled.
//
// A record that cannot be read is left alone, and so is all that the backends hold under its name. The error then wraps
// [snapshot.ErrBadRecord], and comes beside reports that are complete.
func (c *Cluster) Reconcile(ctx context.Context, req ReconcileRequest) (reports []BackendReport, err error) {
	chosen, err := c.choose(req.Backends)
	if err != nil {
		return nil, err
	}
	if err := c.retirable(ctx, req.Retire); err != nil {
		return nil, err
	}
	begin := c.cfg.Now()
	ctx, trace := span.Run(ctx, "snapshot reconcile", span.Cluster.String(c.cfg.Name),
		attribute.Bool("validate_only", req.ValidateOnly), attribute.Bool("repair", req.Repair))
	defer func() {
		ev := resultOf(ctx, reports, err)
		ev.Type, ev.Duration = snapshot.EventReconciled, c.cfg.Now().Sub(begin)
		c.observe(ctx, ev)
		trace.End(ev.Err)
	}()
	var views []*view
	for _, repo := range chosen {
		views = append(views, &view{repo: repo, report: BackendReport{Cluster: c.cfg.Name, Backend: repo.Name()}})
	}
	r := newReconciliation(c, req, views)
	err = r.run(ctx)
	for _, v := range r.views {
		reports = append(reports, v.report)
	}
	if err != nil {
		return reports, err
	}
	// A reconcile that ended early may not have forgotten all locations of retired nodes. Then their stores stay, too.
	reports = append(reports, r.forgetStores(ctx)...)
	r.logEnd(ctx)
	return reports, r.bad.Err()
}

// resultOf returns an event with the errors of a reconcile: one for each backend, and one for all, because its metric
// has no backend. A call that was cancelled tells nothing of the backends, and a record that cannot be read is no fault
// of theirs.
func resultOf(ctx context.Context, reports []BackendReport, err error) snapshot.Event {
	ofEach := err
	if errors.Is(err, snapshot.ErrBadRecord) {
		ofEach = nil
	}
	ev := snapshot.Event{Backends: map[string]error{}, Unseen: map[string]bool{}, Err: err}
	for _, r := range reports {
		ev.Backends[r.Backend], ev.Err = errors.Join(ofEach, r.Err), errors.Join(ev.Err, r.Err)
		if ofEach != nil || r.Unseen {
			ev.Unseen[r.Backend] = true
		}
	}
	if ev.Err != nil && errors.Is(ctx.Err(), context.Canceled) {
		ev.Backends = nil
	}
	return ev
}

// reconciliation is one Reconcile under way.
type reconciliation struct {
	c     *Cluster
	req   ReconcileRequest
	begin time.Time
	views []*view

	cmp *comparison

	liveEtcd func() string // the id of the etcd cluster that is saved now; asked for once, and only when it matters

	mu      sync.Mutex // guards the following fields
	byState map[snapshot.State]int64
	damaged map[string]damaged // by name
	proven  snapshot.Record    // the one that a drill has proven last
	etcds   snapshot.Histories
	busy    map[string]bool // names that a replica is saving: their files are no leftovers
	changes int64
	queue   []missing // copies to repair
	bad     snapshot.BadRecords
	retired map[string]int64 // by backend of a retired node: locations that the catalog has forgotten
}

// damaged is a snapshot that did not pass its last verification.
type damaged struct {
	taken time.Time
	on    []string // backends
}

// newReconciliation returns a reconciliation that has seen nothing yet.
func newReconciliation(c *Cluster, req ReconcileRequest, views []*view) *reconciliation {
	cmp := newComparison(c, views, req.ValidateOnly)
	return &reconciliation{
		c: c, req: req, begin: cmp.begin, views: views, cmp: cmp,
		byState: map[snapshot.State]int64{}, damaged: map[string]damaged{}, busy: map[string]bool{},
		etcds: snapshot.Histories{}, retired: map[string]int64{},
	}
}

// item is one name, with all that is known of it: by the catalog, and by each backend that was listed.
type item struct {
	name   string
	rec    *snapshot.Record    // nil when the catalog has none
	bad    bool                // the catalog has one that cannot be read
	groups []*repository.Group // of the views, nil where the listing has none
	known  []bool              // of the views

	discovered bool // the catalog did not have it when it was read
	attempts   int  // how often another replica was faster since
}

// run reconciles all names, then sweeps, then repairs. Leftovers are swept only after all names were looked at,
// because the saves under way are known then. Repair comes last, because it needs records that tell the truth.
func (r *reconciliation) run(ctx context.Context) error {
	r.liveEtcd = sync.OnceValue(func() string { return r.c.liveEtcd(ctx) })
	records := merge.NewCursor(r.scan(ctx), func(s scanned) string { return snapshot.OrderKey(s.name) })
	defer records.Stop()
	// The catalog's revision is pinned before the listings begin: a record that the scan shows as READY was there
	// already when they did.
	if records.Advance(); records.Err != nil {
		return records.Err
	}
	r.openViews(ctx)
	defer r.closeViews(ctx)

	if err := r.mergeStreams(ctx, records); err != nil {
		return err
	}
	for _, v := range r.views {
		// After a listing that broke off, an object that was not asked for may still be there.
		if v.known {
			r.c.foreign.Forget(v.repo.Name(), r.begin)
			r.c.manifests.Forget(v.repo.Name(), r.begin)
		}
	}
	r.detectSharedPrefix(ctx)
	r.sweep(ctx)
	if err := r.repair(ctx); err != nil {
		return err
	}
	// A reconcile that only looked has counted changes that were not made.
	if !r.req.ValidateOnly {
		r.c.observe(ctx, r.counted())
		r.c.observe(ctx, snapshot.Event{
			Type: snapshot.EventProven, Name: r.proven.Name, Revision: r.proven.Revision, ProvenTime: r.proven.Proven(),
		})
	}
	return nil
}

// counted returns the event of what the catalog has.
func (r *reconciliation) counted() snapshot.Event {
	ev := snapshot.Event{
		Type: snapshot.EventCounted, States: r.byState, Damaged: map[string][]string{}, Unread: int64(r.bad.Len()),
	}
	for name, d := range r.damaged {
		ev.Damaged[name], ev.Newest = d.on, append(ev.Newest, name)
	}
	slices.SortFunc(ev.Newest, func(a, b string) int {
		return cmp.Or(r.damaged[b].taken.Compare(r.damaged[a].taken), cmp.Compare(a, b))
	})
	ev.Newest = ev.Newest[:min(len(ev.Newest), snapshot.MaxDamagedNoted)]
	return ev
}

// scanned is an element of the catalog's scan.
type scanned struct {
	name string
	rec  *snapshot.Record // nil when it cannot be read
}

// scan returns the catalog's records, also those that cannot be read, in their place. One whose key has no name has no
// place.
func (r *reconciliation) scan(ctx context.Context) iter.Seq2[scanned, error] {
	return func(yield func(scanned, error) bool) {
		for rec, err := range r.c.cfg.Records.Scan(ctx) {
			s := scanned{rec: rec}
			switch {
			case errors.Is(err, snapshot.ErrBadRecord):
				r.noteBad(err)
				if s.name, _ = snapshot.BadRecordName(err); s.name == "" {
					continue
				}
			case err != nil:
				yield(scanned{}, err)
				return
			default:
				s.name = rec.Name
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

// noteBad notes the error of a record that cannot be read, and returns false for any other error. Other names go on,
// and the error is returned in the end, beside complete reports.
func (r *reconciliation) noteBad(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bad.Add(err)
}

// leaveAlone does nothing about a name whose record cannot be read: it is not known whose files these are.
func (r *reconciliation) leaveAlone(it item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy[it.name] = true
	e := newListed(it)
	r.cmp.count(e)
}

// mergeStreams takes name after name off the catalog and the listings, and reconciles several records side by side. The
// first error ends it.
func (r *reconciliation) mergeStreams(ctx context.Context, records *merge.Cursor[scanned]) error {
	// Records that are as the listings show them cost nothing. The workers are for the others, whose requests take a
	// while.
	working, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	workers := inflight.NewSlots(reconcileWorkers)
	var wg sync.WaitGroup
	for {
		it, ok := r.nextItem(records)
		if !ok {
			break
		}
		release, err := workers.Take(working, "reconcile %s", it.name)
		if err != nil {
			break
		}
		wg.Go(func() {
			defer release()
			err := r.reconcileRecord(working, it)
			if r.noteBad(err) { // it was read a moment ago, or would be too large to be written
				r.leaveAlone(it)
			} else if err != nil {
				fail(err)
			}
		})
	}
	wg.Wait()
	switch {
	case ctx.Err() != nil:
		return snapshot.Cancelled(ctx, "reconcile cluster %q", r.c.cfg.Name)
	case working.Err() != nil:
		return context.Cause(working)
	}
	return records.Err
}

// logEnd writes the line that every reconcile leaves, also one that no caller waits for.
func (r *reconciliation) logEnd(ctx context.Context) {
	var failed []error
	without := "reconciled without all objects of the backends"
	for _, v := range r.views {
		if v.report.Err != nil {
			failed = append(failed, v.report.Err)
		}
		if v.report.Unseen {
			without = "reconciled without all backends"
		}
	}
	attrs := []any{"duration", r.c.cfg.Now().Sub(r.begin), "validate_only", r.req.ValidateOnly, "changes", r.changes,
		"repair", r.req.Repair}
	bad := r.bad.Err()
	switch {
	case len(failed) == 0 && bad == nil:
		r.c.log.InfoContext(ctx, "reconciled", attrs...)
		return
	case bad != nil:
		r.c.log.WarnContext(ctx, "records cannot be read; nothing under their names was reconciled", "error", bad)
	}
	if len(failed) == 0 {
		r.c.log.WarnContext(ctx, "reconciled without all records", attrs...)
		return
	}
	attrs = append(attrs, "backends_failed", len(failed), "backends", len(r.views), "error", errors.Join(failed...))
	r.c.log.WarnContext(ctx, without, attrs...)
}

// nextItem takes the smallest name off all streams. All of them are in the order of snapshot.OrderKey, so one pass is
// enough, and memory does not depend on the number of snapshots.
func (r *reconciliation) nextItem(records *merge.Cursor[scanned]) (item, bool) {
	least := records.Key
	for _, v := range r.views {
		if v.cursor != nil && v.cursor.Key != "" && (least == "" || v.cursor.Key < least) {
			least = v.cursor.Key
		}
	}
	if least == "" || records.Err != nil {
		return item{}, false
	}
	it := item{name: snapshot.NameOfOrderKey(least), groups: make([]*repository.Group, len(r.views)),
		known: make([]bool, len(r.views))}
	for i, v := range r.views {
		// known is read before the view moves on: it is about the listing up to this name.
		it.known[i] = v.known
		if v.cursor != nil && v.cursor.Key == least {
			it.groups[i] = v.cursor.Cur
			r.advance(v)
		}
	}
	if records.Key == least {
		it.rec, it.bad = records.Cur.rec, records.Cur.rec == nil
		records.Advance()
	}
	return it, true
}

// detectSharedPrefix warns when two etcds were saved to one place in turns.
func (r *reconciliation) detectSharedPrefix(ctx context.Context) {
	if a, b, found := r.etcds.Overlap(); found {
		r.c.log.WarnContext(ctx,
			"two etcd clusters are saved to one place; give each a cluster name or a prefix of its own, "+
				"or their runs and retention get mixed up",
			"etcd_cluster", a, "other_etcd_cluster", b, "prefix", r.c.cfg.Prefix)
	}
}
