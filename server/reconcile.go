package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/message"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// reconcileWidth is how many clusters one call reconciles at a time.
const reconcileWidth = 4

// reconciliation is one cluster's share of a call.
type reconciliation struct {
	cluster Cluster
	req     cluster.ReconcileRequest
	reports []cluster.BackendReport
	copies  []status.JournalCopies
	err     error

	panicked string // with the stack
}

// Reconcile implements the RPC. A cluster that fails does not keep the others from being reconciled.
func (s *service) Reconcile(
	ctx context.Context, req *snapshotdv1.ReconcileRequest,
) (*snapshotdv1.ReconcileResponse, error) {
	work, err := s.plan(ctx, req)
	if err != nil {
		return nil, err
	}
	reconcileAll(ctx, work)
	resp := &snapshotdv1.ReconcileResponse{}
	for _, w := range work {
		for _, report := range w.told(len(work) > 1) {
			resp.Backends = append(resp.Backends, wire.ReportToProto(report))
		}
		resp.Journal = append(resp.Journal, message.Copies(w.cluster.Name(), w.copies)...)
		bad := snapshot.EachBadRecord(w.err)
		resp.Unreadable = append(resp.Unreadable, wire.UnreadableToProto(w.cluster.Name(), bad)...)
	}
	switch w := work[0]; {
	case len(work) == 1 && w.err != nil && len(resp.GetBackends()) == 0:
		return nil, &failure{error: w.err, cluster: w.cluster.Name()}
	case len(work) == 1 && w.err != nil:
		return nil, &failure{error: w.err, cluster: w.cluster.Name(), reconciled: resp}
	case ctx.Err() != nil:
		return nil, &failure{error: snapshot.Cancelled(ctx, "reconcile %d clusters", len(work)), reconciled: resp}
	}
	return resp, nil
}

// told returns the reports of a cluster. The error of the whole is that of each backend, so that nobody takes it for
// reconciled. A record that cannot be read leaves the reports complete; the call tells it if it is of this cluster
// alone.
func (w *reconciliation) told(several bool) []cluster.BackendReport {
	if w.err == nil || !several && errors.Is(w.err, snapshot.ErrBadRecord) {
		return w.reports
	}
	reports := slices.Clone(w.reports)
	if len(reports) == 0 {
		for _, b := range w.cluster.BackendNames() {
			if snapshot.IsChosen(b, w.req.Backends) {
				reports = append(reports, cluster.BackendReport{Cluster: w.cluster.Name(), Backend: b})
			}
		}
	}
	for i := range reports {
		if reports[i].Err == nil {
			reports[i].Err = w.err
		}
	}
	return reports
}

func reconcileAll(ctx context.Context, work []*reconciliation) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, reconcileWidth)
	for _, w := range work {
		if !w.cluster.use(ctx) {
			w.err = clustersChanged("reconcile", "reconcile again")
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer func() {
				if p := recover(); p != nil {
					w.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
				}
			}()
			w.reports, w.err = w.cluster.Reconcile(ctx, w.req)
			if w.err == nil || errors.Is(w.err, snapshot.ErrBadRecord) {
				w.copies = w.cluster.Journal.ReconcileJournal(ctx, w.req)
			}
		})
	}
	wg.Wait()
	for _, w := range work {
		if w.panicked != "" {
			panic(w.panicked) // in the handler's goroutine it ends the call, and not the process
		}
	}
}

// plan returns the clusters to reconcile, and the backends of each. Among several clusters, the name of a backend
// chooses those that have such a backend.
func (s *service) plan(ctx context.Context, req *snapshotdv1.ReconcileRequest) ([]*reconciliation, error) {
	clusters, err := s.chosen(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	if len(clusters) == 1 || len(req.GetBackends()) == 0 {
		return planOf(clusters, func(Cluster) []string { return req.GetBackends() }, req), nil
	}
	for _, b := range req.GetBackends() {
		if !slices.ContainsFunc(clusters, func(c Cluster) bool { return hasBackend(c, b) }) {
			names := backendsOf(clusters)
			err := snapshot.Invalid("backends", "no cluster has a backend %.120q; they have %s", b, snapshot.Join(names))
			err.Choices = names
			return nil, err
		}
	}
	clusters = slices.DeleteFunc(slices.Clone(clusters), func(c Cluster) bool {
		return len(common(req.GetBackends(), c)) == 0
	})
	return planOf(clusters, func(c Cluster) []string { return common(req.GetBackends(), c) }, req), nil
}

func planOf(clusters []Cluster, backends func(Cluster) []string, req *snapshotdv1.ReconcileRequest) []*reconciliation {
	work := make([]*reconciliation, len(clusters))
	for i, c := range clusters {
		work[i] = &reconciliation{cluster: c, req: cluster.ReconcileRequest{
			Backends: backends(c), ValidateOnly: req.GetValidateOnly(), Repair: req.GetRepair(), Retire: req.GetRetireNodes(),
		}}
	}
	return work
}

// backendsOf returns the names of all backends of clusters, each once.
func backendsOf(clusters []Cluster) (names []string) {
	for _, c := range clusters {
		names = append(names, c.BackendNames()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// common returns the names that are backends of the cluster.
func common(names []string, c Cluster) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !hasBackend(c, n) })
}

func hasBackend(c Cluster, given string) bool {
	return slices.ContainsFunc(c.BackendNames(), func(b string) bool { return snapshot.IsBackend(b, given) })
}
