package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/message"
	"github.com/snapshotd/snapshotd/server/turns"
	"github.com/snapshotd/snapshotd/snapshot"
)

// clusterService is the ClusterService.
type clusterService struct {
	snapshotdv1.UnimplementedClusterServiceServer
	server *Server
	api    *service
}

// ListClusters implements the RPC.
func (s *clusterService) ListClusters(
	ctx context.Context, req *snapshotdv1.ListClustersRequest,
) (*snapshotdv1.ListClustersResponse, error) {
	seen := s.api.visible(ctx)
	page, err := message.PageOf(req, namesOf(seen))
	if err != nil {
		return nil, err
	}
	resp := &snapshotdv1.ListClustersResponse{Time: timestamppb.Now()}
	judged := s.server.judgeAll(ctx, seen[page.From:page.To])
	if ctx.Err() != nil { // what is said of them then is not true
		return nil, snapshot.Cancelled(ctx, "judge the clusters")
	}
	_, via := callerOf(ctx)
	return resp, page.Fill(resp, judged, via == "grpc")
}

// GetCluster implements the RPC.
func (s *clusterService) GetCluster(
	ctx context.Context, req *snapshotdv1.GetClusterRequest,
) (*snapshotdv1.GetClusterResponse, error) {
	c, err := s.api.cluster(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	inTime, cancel := turns.BeforeEnd(ctx)
	defer cancel()
	at, judged := timestamppb.Now(), s.server.judge(inTime, c, judgeTimeout)
	if ctx.Err() != nil {
		return nil, &failure{error: snapshot.Cancelled(ctx, "judge the cluster"), cluster: c.Name()}
	}
	return &snapshotdv1.GetClusterResponse{Time: at, Cluster: message.Cluster(judged)}, nil
}
