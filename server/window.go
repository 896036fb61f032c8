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
	w := status.Window{}
	if c.Journal != nil {
		if w, err = c.Journal.Window(ctx); err != nil {
			return nil, err
		}
	}
	if err := addSnapshots(ctx, c, &w); err != nil {
		return nil, err
	}
	w.PutBases()
	return &snapshotdv1.GetRecoveryWindowResponse{Window: message.Window(&w), Time: timestamppb.Now()}, nil
}

// addSnapshots adds to a window those that can be restored. For the ranges of a journal these are all: the oldest may be
// the only one from which a range can be restored. Without a journal, they are those that are shown.
func addSnapshots(ctx context.Context, c Cluster, w *status.Window) error {
	q := snapshot.Query{States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial}, PageSize: status.MaxShown}
	for {
		page, err := c.List(ctx, q)
		if err != nil {
			return err
		}
		w.Add(page)
		if q.PageToken = page.NextPageToken; q.PageToken == "" || len(w.Timelines) == 0 {
			return nil
		}
	}
}
