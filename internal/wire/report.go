package wire

import (
	"errors"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
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
		status = statusOf(&e, r.Err, r.Cluster).Proto()
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

// UnreadableToProto returns the records of a cluster that cannot be read, by the errors of reading them.
func UnreadableToProto(cluster string, errs []error) (all []*snapshotdv1.UnreadableRecord) {
	for _, err := range errs {
		m := &snapshotdv1.UnreadableRecord{Cluster: cluster, Error: text(err.Error())}
		if bad, ok := errors.AsType[*snapshot.BadRecord](err); ok {
			m.Name, m.Key = text(bad.Name), text(bad.Key)
		}
		all = append(all, m)
	}
	return all
}

// shrinkReconciled makes the result of a reconciliation fit into a status, or returns nil when there is too much of it.
// A report never loses its error, without which it would look good. It changes m.
func shrinkReconciled(m *snapshotdv1.ReconcileResponse) *snapshotdv1.ReconcileResponse {
	for _, limit := range []int{maxText, maxName} {
		for _, b := range m.GetBackends() {
			if e := b.GetError(); e != nil {
				b.Error = &rpcstatus.Status{Code: e.GetCode(), Message: shorten(e.GetMessage(), limit)}
			}
		}
		if proto.Size(m) <= maxSnapshot {
			return m
		}
		m.Unreadable, m.Journal = nil, nil // the status itself names the first record
	}
	if proto.Size(m) <= maxSnapshot {
		return m
	}
	return nil
}
