package server

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// reconcileWidth is how many clusters one call reconciles at a time.
const reconcileWidth = 4

// reconciliation is one cluster's share of a call.
type reconciliation struct {
	cluster Cluster
	req     cluster.ReconcileRequest
	reports []cluster.BackendReport
	err     error

	panicked string // with the stack
}

// Reconcile implements the RPC. A cluster that fails does not keep the others from being reconciled; its error becomes
// the error of the call.
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
		for _, report := range w.reports {
			resp.Backends = append(resp.Backends, wire.ReportToProto(report))
		}
	}
	return resp, firstFailure(work)
}

func reconcileAll(ctx context.Context, work []*reconciliation) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, reconcileWidth)
	for _, w := range work {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer func() {
				if p := recover(); p != nil {
					w.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
				}
			}()
			w.reports, w.err = w.cluster.Reconcile(ctx, w.req)
		})
	}
	wg.Wait()
	for _, w := range work {
		if w.panicked != "" {
			panic(w.panicked) // in the handler's goroutine it ends the call, and not the process
		}
	}
}

// firstFailure returns the error of the first cluster that failed as a whole.
func firstFailure(work []*reconciliation) error {
	failed := slices.DeleteFunc(slices.Clone(work), func(w *reconciliation) bool { return w.err == nil })
	if len(failed) == 0 {
		return nil
	}
	name, err := failed[0].cluster.Name(), failed[0].err
	switch {
	case len(failed) > 1:
		err = fmt.Errorf("reconcile cluster %q, and %d of the other clusters failed as well: %w", name, len(failed)-1, err)
	case len(work) > 1:
		err = fmt.Errorf("reconcile cluster %q: %w", name, err)
	}
	return &failure{error: err, cluster: name}
}

// plan returns the clusters to reconcile, and the backends of each. Among several clusters, the name of a backend
// chooses those that have such a backend.
func (s *service) plan(ctx context.Context, req *snapshotdv1.ReconcileRequest) ([]*reconciliation, error) {
	clusters := s.visible(ctx)
	if req.GetCluster() != "" {
		c, err := named(clusters, req.GetCluster())
		if err != nil {
			return nil, err
		}
		clusters = []Cluster{c}
	}
	if len(clusters) == 1 || len(req.GetBackends()) == 0 {
		return planOf(clusters, func(Cluster) []string { return req.GetBackends() }, req), nil
	}
	for _, b := range req.GetBackends() {
		if !slices.ContainsFunc(clusters, func(c Cluster) bool { return hasBackend(c, b) }) {
			return nil, snapshot.Invalid("backends", "no cluster has a backend %.120q", b)
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

// common returns the names that are backends of the cluster.
func common(names []string, c Cluster) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !hasBackend(c, n) })
}

func hasBackend(c Cluster, given string) bool {
	return slices.ContainsFunc(c.BackendNames(), func(b string) bool { return snapshot.IsBackend(b, given) })
}
