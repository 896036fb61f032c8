package server

import (
	"context"
	"fmt"

	"github.com/snapshotd/snapshotd/cluster"
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
		if err := noneRemoved(decisions); err != nil {
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

// noneRemoved returns the error of a prune that could remove nothing of what it was to remove. What a bucket's lock keeps
// was not to be removed yet.
func noneRemoved(decisions []cluster.Decision) error {
	var first error
	failed := 0
	for _, d := range decisions {
		if d.Stays {
			continue
		}
		if d.Err == nil {
			return nil
		}
		if failed++; first == nil {
			first = d.Err
		}
	}
	if first == nil {
		return nil
	}
	return fmt.Errorf("none of the %d copies that retention removes could be removed; the first: %w", failed, first)
}
