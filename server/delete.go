package server

import (
	"context"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/pruning"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/message"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Delete implements the RPC.
func (s *service) Delete(ctx context.Context, req *snapshotdv1.DeleteRequest) (*snapshotdv1.DeleteResponse, error) {
	c, err := s.cluster(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	rec, err := c.Delete(ctx, cluster.DeleteRequest{Name: req.GetName(), Backends: req.GetBackends(), Etag: req.GetEtag()})
	var left *snapshot.Snapshot
	if rec != nil {
		left = &rec.Snapshot
	}
	if err != nil {
		return nil, &failure{error: err, cluster: c.Name(), snapshot: left}
	}
	return &snapshotdv1.DeleteResponse{Snapshot: wire.SnapshotToProto(left)}, nil
}

// Prune implements the RPC.
func (s *service) Prune(ctx context.Context, req *snapshotdv1.PruneRequest) (*snapshotdv1.PruneResponse, error) {
	c, err := s.cluster(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	decisions, err := c.Prune(ctx, cluster.PruneRequest{Backends: req.GetBackends(), ValidateOnly: req.GetValidateOnly()})
	if err != nil {
		return nil, &failure{error: err, cluster: c.Name()}
	}
	resp := &snapshotdv1.PruneResponse{}
	for _, d := range decisions {
		resp.Decisions = append(resp.Decisions, wire.DecisionToProto(c.Name(), d))
	}
	if !req.GetValidateOnly() {
		if err := pruning.NoneRemoved(decisions); err != nil {
			return nil, &failure{error: err, cluster: c.Name(), pruned: resp}
		}
		return resp, nil
	}
	if c.Journal != nil {
		all, err := c.Journal.JournalRemovals(ctx)
		resp.Journal = message.Removals(c.Name(), all, req.GetBackends(), err)
	}
	return resp, nil
}
