package client

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// Page is the number of snapshots in one request of a list.
	Page         = 500
	listAttempts = 3 // how often a listing begins again because its revision was compacted meanwhile
)

// ListAll reads all pages, or up to limit snapshots when it is not 0.
func (c *Client) ListAll(
	ctx context.Context, req *snapshotdv1.ListRequest, limit int,
) (*snapshotdv1.ListResponse, error) {
	for attempt := 1; ; attempt++ {
		all, err := c.listOnce(ctx, req, limit)
		if wire.DetailsOf(err).Reason == snapshot.ReasonPageTokenExpired && attempt < listAttempts {
			continue
		}
		return all, err
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

// Latest names the newest snapshot.
const Latest = "latest"

// LatestOffered offers it as a completion of a name.
var LatestOffered = cobra.CompletionWithDesc(Latest, "the newest")

// Resolve returns the name of the newest whole snapshot for "latest", and any other name as it is.
func (c *Client) Resolve(ctx context.Context, name, backend string) (string, error) {
	if name != Latest {
		return name, nil
	}
	req := &snapshotdv1.ListRequest{
		Cluster: c.Cluster, PageSize: 1, Backend: backend,
		States: []snapshotdv1.Snapshot_State{snapshotdv1.Snapshot_STATE_READY, snapshotdv1.Snapshot_STATE_PARTIAL},
	}
	for {
		resp, err := c.List(ctx, req)
		if err != nil {
			return "", err
		}
		for _, s := range resp.GetSnapshots() {
			if backend == "" || wholeOn(s, backend) {
				return s.GetName(), nil
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
		req.PageSize = Page // the newest does not match
	}
	where := "anywhere"
	if backend != "" {
		where = "on " + backend
	}
	return "", exit.NotFound("there is no snapshot that is whole " + where)
}

func wholeOn(s *snapshotdv1.Snapshot, backend string) bool {
	return slices.ContainsFunc(s.GetLocations(), func(l *snapshotdv1.Location) bool {
		return snapshot.IsBackend(l.GetBackend(), backend) && l.GetState() == snapshotdv1.Snapshot_STATE_READY
	})
}
