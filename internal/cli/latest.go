package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// latest names the newest snapshot.
const latest = "latest"

// latestOffered offers it as a completion of a name.
var latestOffered = cobra.CompletionWithDesc(latest, "the newest")

// resolve returns the name of the newest whole snapshot for "latest", and any other name as it is.
func (c *client) resolve(ctx context.Context, name, backend string) (string, error) {
	if name != latest {
		return name, nil
	}
	req := &snapshotdv1.ListRequest{
		Cluster: c.cluster, PageSize: 1, Backend: backend,
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
		req.PageSize = listPage // the newest does not match
	}
	where := "anywhere"
	if backend != "" {
		where = "on " + backend
	}
	return "", &notFoundError{"there is no snapshot that is whole " + where}
}

func wholeOn(s *snapshotdv1.Snapshot, backend string) bool {
	return slices.ContainsFunc(s.GetLocations(), func(l *snapshotdv1.Location) bool {
		return l.GetBackend() == backend && l.GetState() == snapshotdv1.Snapshot_STATE_READY
	})
}
