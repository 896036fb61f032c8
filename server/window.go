package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/message"
)

// GetRecoveryWindow implements the RPC.
func (s *clusterService) GetRecoveryWindow(
	ctx context.Context, req *snapshotdv1.GetRecoveryWindowRequest,
) (*snapshotdv1.GetRecoveryWindowResponse, error) {
	c, err := s.api.cluster(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	w, err := c.Journal.Window(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.AddAll(ctx, c.List); err != nil {
		return nil, err
	}
	w.PutBases()
	return &snapshotdv1.GetRecoveryWindowResponse{Window: message.Window(&w), Time: timestamppb.Now()}, nil
}
