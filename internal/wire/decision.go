package wire

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// DecisionToProto returns what retention says of one copy as Prune sends it.
func DecisionToProto(cluster string, d snapshot.Decision) *snapshotdv1.PruneDecision {
	m := &snapshotdv1.PruneDecision{
		Name: d.Name, Backend: d.Backend, CreateTime: timestamppb.New(d.CreateTime), SizeBytes: d.Size, Stays: d.Stays, Why: text(d.Why),
	}
	if d.Err != nil {
		m.Error = Status(d.Err, cluster, nil).Proto()
	}
	return m
}
