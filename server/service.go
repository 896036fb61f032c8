package server

import (
	"context"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/snapshot"
)

// service is the SnapshotService.
type service struct {
	snapshotdv1.UnimplementedSnapshotServiceServer
	fleet     *fleet
	events    *Events
	stall     time.Duration // how long a caller may leave a message of a download or of a catalog unread
	calls     *limits.Calls
	downloads *limits.Downloads
}

// Save implements the RPC.
func (s *service) Save(ctx context.Context, req *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error) {
	c, err := s.cluster(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	if err := s.calls.Save(c.Name()); err != nil {
		return nil, &failure{error: err, cluster: c.Name()}
	}
	res, err := c.Save(ctx, cluster.SaveRequest{
		NamePrefix: req.GetNamePrefix(),
		Labels:     req.GetLabels(),
		Backends:   req.GetBackends(),
		RequestID:  req.GetRequestId(),
		Trigger:    snapshot.TriggerManual,
	})
	if err != nil {
		return nil, &failure{error: err, cluster: c.Name(), snapshot: res.Snapshot}
	}
	return &snapshotdv1.SaveResponse{Snapshot: wire.SnapshotToProto(res.Snapshot), Warnings: res.Warnings}, nil
}

// Get implements the RPC.
func (s *service) Get(ctx context.Context, req *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error) {
	c, err := s.cluster(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	rec, err := c.Get(ctx, req.GetName())
	if err != nil {
		return nil, &failure{error: err, cluster: c.Name()}
	}
	return &snapshotdv1.GetResponse{Snapshot: wire.SnapshotToProto(&rec.Snapshot)}, nil
}

// List implements the RPC.
func (s *service) List(ctx context.Context, req *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
	c, err := s.cluster(ctx, req.GetCluster())
	if err != nil {
		return nil, err
	}
	q, err := queryOf(req)
	if err != nil {
		return nil, &failure{error: err, cluster: c.Name()}
	}
	page, err := c.List(ctx, q)
	if err != nil {
		return nil, &failure{error: err, cluster: c.Name()}
	}
	resp := &snapshotdv1.ListResponse{
		NextPageToken: page.NextPageToken, Unreadable: wire.UnreadableToProto(c.Name(), page.Unreadable),
	}
	for _, rec := range page.Records {
		resp.Snapshots = append(resp.Snapshots, wire.SnapshotToProto(&rec.Snapshot))
	}
	return resp, nil
}

// visible returns the clusters that the caller may see. To it, there are no others.
func (s *service) visible(ctx context.Context) []Cluster {
	return visible(auth.FromContext(ctx), allowedOf(ctx, s.fleet.all()))
}

// visible returns the clusters that a principal may see, in their order. It is nobody that may see none.
func visible(p *auth.Principal, clusters []Cluster) []Cluster {
	if p == nil {
		return nil
	}
	var seen []Cluster
	for _, c := range clusters {
		if p.Role(c.Name()) >= auth.Viewer {
			seen = append(seen, c)
		}
	}
	return seen
}

// cluster returns the cluster of a name; an empty name means the only cluster.
func (s *service) cluster(ctx context.Context, name string) (Cluster, error) {
	for {
		c, err := s.find(ctx, name)
		if err != nil || c.use(ctx) {
			return c, err
		}
	}
}

func (s *service) find(ctx context.Context, name string) (Cluster, error) {
	seen := s.visible(ctx)
	if name == "" && len(seen) == 1 {
		return seen[0], nil
	}
	if name == "" {
		names := namesOf(seen)
		err := snapshot.Invalid("cluster", "is empty, and there are several: name one of %s", strings.Join(names, ", "))
		err.Choices = names
		return Cluster{}, err
	}
	return named(seen, name)
}

// chosen returns the cluster of a name; an empty name means all that the caller may see.
func (s *service) chosen(ctx context.Context, name string) ([]Cluster, error) {
	seen := s.visible(ctx)
	if name == "" {
		return seen, nil
	}
	c, err := named(seen, name)
	if err != nil {
		return nil, err
	}
	return []Cluster{c}, nil
}

func named(clusters []Cluster, name string) (Cluster, error) {
	for _, c := range clusters {
		if c.Name() == name {
			return c, nil
		}
	}
	names := namesOf(clusters)
	err := snapshot.ReasonClusterNotFound.New("there is no cluster %.120q", name).
		Advise("there are: %s", strings.Join(names, ", "))
	err.Choices = names
	return Cluster{}, err
}

func namesOf(clusters []Cluster) []string {
	names := make([]string, len(clusters))
	for i, c := range clusters {
		names[i] = c.Name()
	}
	return names
}
