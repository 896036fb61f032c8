package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/message"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// GetRecoveryWindow implements the RPC.
func (s *clusterService) GetRecoveryWindow(
	ctx context.Context, req *snapshotdv1.GetRecoveryWindowRequest,
) (*snapshotdv1.GetRecoveryWindowResponse, error) {
	c, err := s.api.cluster(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	page, err := c.List(ctx, snapshot.Query{
		States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial}, PageSize: status.JudgedSnapshots,
	})
	if err != nil {
		return nil, err
	}
	w := status.Window{}
	if c.Journal != nil {
		if w, err = c.Journal.Window(ctx); err != nil {
			return nil, err
		}
	}
	status.PutBases(&w, page.Records)
	return &snapshotdv1.GetRecoveryWindowResponse{Window: message.Window(&w), Time: timestamppb.Now()}, nil
}
