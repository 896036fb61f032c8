package wire

import (
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// ReportToProto returns the report of a reconciliation on one backend, as Reconcile sends it. The error has the shape
// that it would have as the status of a call, and its ErrorInfo names the report's backend.
func ReportToProto(r cluster.BackendReport) *snapshotdv1.BackendReconciliation {
	var status *rpcstatus.Status
	if r.Err != nil {
		e := *errorOf(r.Err)
		if e.Backend == "" {
			e.Backend = r.Backend
		}
		status = statusOf(&e, r.Err, r.Cluster, nil).Proto()
	}
	return &snapshotdv1.BackendReconciliation{
		Cluster:   r.Cluster,
		Backend:   r.Backend,
		Listed:    r.Listed,
		Unchanged: r.Unchanged,
		Added:     r.Added,
		Updated:   r.Updated,
		Removed:   r.Removed,
		Repaired:  r.Repaired,
		Swept:     r.Swept,
		Foreign:   r.Foreign,
		Error:     status,
	}
}
