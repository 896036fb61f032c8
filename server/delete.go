package server

import (
	"context"
	"fmt"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/pruning"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/message"
	"github.com/snapshotd/snapshotd/server/turns"
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
	inTime, cancel := turns.BeforeEnd(ctx) // what is removed then is known to the caller
	defer cancel()
	decisions, err := c.Prune(inTime, cluster.PruneRequest{
		Backends: req.GetBackends(), ValidateOnly: req.GetValidateOnly(),
	})
	resp := &snapshotdv1.PruneResponse{}
	for _, d := range decisions {
		resp.Decisions = append(resp.Decisions, wire.DecisionToProto(c.Name(), d))
	}
	if !req.GetValidateOnly() {
		if err = pruneError(decisions, err); err != nil {
			return nil, &failure{error: err, cluster: c.Name(), pruned: resp}
		}
		return resp, nil
	}
	if err != nil {
		return nil, &failure{error: err, cluster: c.Name()}
	}
	all, err := c.Journal.JournalRemovals(ctx)
	resp.Journal = message.Removals(c.Name(), all, req.GetBackends(), err)
	return resp, nil
}

// pruneError returns the error of a prune that has made decisions. One that ended early says how much it had removed.
func pruneError(decisions []cluster.Decision, err error) error {
	if err == nil {
		return pruning.NoneRemoved(decisions)
	}
	removed := 0
	for _, d := range decisions {
		if !d.Stays && d.Err == nil {
			removed++
		}
	}
	if removed == 0 {
		return err
	}
	return fmt.Errorf("copies that were removed before the prune ended: %d, and they stay removed; %w", removed, err)
}
