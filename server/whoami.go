package server

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/snapshot"
)

// roles are the roles as the API has them.
var roles = map[auth.Role]snapshotdv1.Role{
	auth.Viewer:   snapshotdv1.Role_ROLE_VIEWER,
	auth.Operator: snapshotdv1.Role_ROLE_OPERATOR,
	auth.Admin:    snapshotdv1.Role_ROLE_ADMIN,
}

// WhoAmI implements the RPC.
func (s *service) WhoAmI(ctx context.Context, _ *snapshotdv1.WhoAmIRequest) (*snapshotdv1.WhoAmIResponse, error) {
	p := auth.FromContext(ctx)
	if p == nil {
		return nil, snapshot.ReasonInternal.New("the call has no principal")
	}
	resp := &snapshotdv1.WhoAmIResponse{Kind: string(p.Kind), Name: p.Name}
	if !p.Until.IsZero() {
		resp.ExpireTime = timestamppb.New(p.Until)
	}
	for _, c := range s.visible(ctx) {
		resp.Clusters = append(resp.Clusters, &snapshotdv1.ClusterRole{Cluster: c.Name(), Role: roles[p.Role(c.Name())]})
	}
	return resp, nil
}
