package wire

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// DecisionToProto returns the decision of retention on one copy, as Prune sends it. name is the cluster's.
func DecisionToProto(name string, d cluster.Decision) *snapshotdv1.PruneDecision {
	m := &snapshotdv1.PruneDecision{
		Name: d.Name, Backend: d.Backend, CreateTime: timestamppb.New(d.CreateTime), SizeBytes: d.Size,
		Stays: d.Stays, Why: text(d.Why),
	}
	if d.Err != nil {
		m.Error = Status(d.Err, name, nil).Proto()
	}
	return m
}
