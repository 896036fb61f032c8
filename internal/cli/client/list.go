package client

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// Page is the number of snapshots in one request of a list.
	Page = 500
	// listAttempts is how often a listing begins, because its revision was compacted or the clusters changed meanwhile.
	listAttempts = 3
)

// ListAll reads all pages, or up to limit snapshots when it is not 0.
func (c *Client) ListAll(
	ctx context.Context, req *snapshotdv1.ListRequest, limit int,
) (*snapshotdv1.ListResponse, error) {
	return unexpired(func() (*snapshotdv1.ListResponse, error) { return c.listOnce(ctx, req, limit) })
}

// unexpired lists again while the tokens of a listing expire under it.
func unexpired[T any](list func() (T, error)) (T, error) {
	for attempt := 1; ; attempt++ {
		all, err := list()
		if wire.DetailsOf(err).Reason != snapshot.ReasonPageTokenExpired || attempt == listAttempts {
			return all, err
		}
	}
}

func (c *Client) listOnce(
	ctx context.Context, req *snapshotdv1.ListRequest, limit int,
) (*snapshotdv1.ListResponse, error) {
	all := &snapshotdv1.ListResponse{}
	req.PageToken = ""
	for {
		req.PageSize = Page
		if limit > 0 {
			req.PageSize = int32(min(Page, limit-len(all.GetSnapshots())))
		}
		resp, err := c.List(ctx, req)
		if err != nil {
			return nil, err
		}
		all.Snapshots = append(all.Snapshots, resp.GetSnapshots()...)
		all.Unreadable = append(all.Unreadable, resp.GetUnreadable()...)
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" || limit > 0 && len(all.GetSnapshots()) >= limit {
			return all, nil
		}
	}
}

// clusterPage is how many clusters are asked for at a time. The service answers when the last of them has answered it.
const clusterPage = 200

// Judged returns the chosen cluster; all of them when none is chosen.
func (c *Client) Judged(ctx context.Context) (*snapshotdv1.ListClustersResponse, error) {
	if c.Cluster == "" {
		return c.Clusters(ctx)
	}
	one, err := c.GetCluster(ctx, &snapshotdv1.GetClusterRequest{Cluster: c.Cluster})
	if err != nil {
		return nil, err
	}
	return &snapshotdv1.ListClustersResponse{
		Clusters: []*snapshotdv1.Cluster{one.GetCluster()}, Time: one.GetTime(),
	}, nil
}

// Clusters reads all pages of the clusters. The time is that of the last page: nothing in them is later.
func (c *Client) Clusters(ctx context.Context) (*snapshotdv1.ListClustersResponse, error) {
	return unexpired(func() (*snapshotdv1.ListClustersResponse, error) { return c.clustersOnce(ctx) })
}

func (c *Client) clustersOnce(ctx context.Context) (*snapshotdv1.ListClustersResponse, error) {
	all := &snapshotdv1.ListClustersResponse{}
	req := &snapshotdv1.ListClustersRequest{PageSize: clusterPage}
	for {
		resp, err := c.ListClusters(ctx, req)
		if err != nil {
			return nil, err
		}
		all.Clusters, all.Time = append(all.Clusters, resp.GetClusters()...), resp.GetTime()
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

// Latest names the newest snapshot.
const Latest = "latest"

// LatestOffered offers it as a completion of a name.
var LatestOffered = cobra.CompletionWithDesc(Latest, "the newest")

// Resolve returns the name of the newest whole snapshot for "latest", and any other name as it is. One that claims to
// be of the future is not the newest beside others: its clock was wrong, or its name is not a time. It is returned as
// ahead. When all are ahead of now, it is this machine's clock that is wrong.
func (c *Client) Resolve(
	ctx context.Context, name, backend string, now time.Time,
) (resolved string, ahead *snapshotdv1.Snapshot, err error) {
	if name != Latest {
		return name, nil, nil
	}
	until := now.Add(snapshot.ClockTolerance)
	newest, err := c.newest(ctx, backend, nil)
	if err != nil || newest != nil && !newest.GetCreateTime().AsTime().After(until) {
		return newest.GetName(), nil, err
	}
	if newest == nil {
		where := "anywhere"
		if backend != "" {
			where = "on " + backend
		}
		return "", nil, exit.NotFound("there is no snapshot that is whole " + where)
	}
	timely, err := c.newest(ctx, backend, timestamppb.New(until))
	if err != nil || timely == nil {
		return newest.GetName(), nil, err
	}
	return timely.GetName(), newest, nil
}

// newest returns the newest snapshot that is whole on a backend, or on any, and was created before a time, if one is
// given; nil when there is none.
func (c *Client) newest(
	ctx context.Context, backend string, until *timestamppb.Timestamp,
) (*snapshotdv1.Snapshot, error) {
	req := &snapshotdv1.ListRequest{
		Cluster: c.Cluster, PageSize: 1, Backend: backend, CreateTimeUntil: until,
		States: []snapshotdv1.Snapshot_State{snapshotdv1.Snapshot_STATE_READY, snapshotdv1.Snapshot_STATE_PARTIAL},
	}
	for {
		resp, err := c.List(ctx, req)
		if err != nil {
			return nil, err
		}
		for _, s := range resp.GetSnapshots() {
			if backend == "" || wholeOn(s, backend) {
				return s, nil
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return nil, nil //nolint:nilnil // none is an answer
		}
		req.PageSize = Page // the newest does not match
	}
}

func wholeOn(s *snapshotdv1.Snapshot, backend string) bool {
	return slices.ContainsFunc(s.GetLocations(), func(l *snapshotdv1.Location) bool {
		return snapshot.IsBackend(l.GetBackend(), backend) && l.GetState() == snapshotdv1.Snapshot_STATE_READY
	})
}
