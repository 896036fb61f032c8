package server

import (
	"context"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Update implements the RPC.
func (s *service) Update(ctx context.Context, req *snapshotdv1.UpdateRequest) (*snapshotdv1.UpdateResponse, error) {
	c, err := s.cluster(ctx, req.GetSnapshot().GetCluster())
	if err != nil {
		return nil, err
	}
	change, err := changeOf(req)
	if err != nil {
		return nil, &failure{error: err, cluster: c.Name()}
	}
	rec, err := c.Update(ctx, change)
	if err != nil {
		f := &failure{error: err, cluster: c.Name()}
		if rec != nil {
			f.snapshot = &rec.Snapshot
		}
		return nil, f
	}
	return &snapshotdv1.UpdateResponse{Snapshot: wire.SnapshotToProto(&rec.Snapshot)}, nil
}

// changeOf returns the change that a request asks for.
func changeOf(req *snapshotdv1.UpdateRequest) (cluster.UpdateRequest, error) {
	m := req.GetSnapshot()
	change := cluster.UpdateRequest{Name: m.GetName(), Etag: m.GetEtag()}
	for _, path := range req.GetUpdateMask().GetPaths() {
		switch path {
		case "labels":
			if change.Labels = m.GetLabels(); change.Labels == nil {
				change.Labels = map[string]string{}
			}
		case "pinned":
			change.Pinned = new(m.GetPinned())
		case "etag": // names the version to change; over HTTP, a body with it has it in the mask
		case "": // the mask of an empty body
			return change, snapshot.Invalid("update_mask", "names nothing to change; labels and pinned can be changed")
		default:
			return change, snapshot.Invalid("update_mask", "%.120q cannot be changed; labels and pinned can", path)
		}
	}
	if change.Labels == nil && change.Pinned == nil {
		return change, snapshot.Invalid("update_mask", "is empty; name labels, pinned, or both")
	}
	return change, nil
}
