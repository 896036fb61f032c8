package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// The newest snapshot is none that claims to be of the future: a clock was wrong, or the name is not a time. When all
// are of the future, the clock of this machine is wrong.
func TestLatestIsNotOfTheFuture(t *testing.T) {
	const adopted = "etcd-snapshot-n1-1999999999"
	future := time.Unix(1999999999, 0)
	for _, tc := range []struct {
		name  string
		times map[string]time.Time // by name
		want  string
		warns bool
	}{
		{"one of the future", map[string]time.Time{adopted: future, "good": now.Add(-time.Hour)}, "good", true},
		{"two of the future", map[string]time.Time{adopted: future, "x": now.AddDate(0, 0, 2), "good": now.Add(-time.Hour)}, "good", true},
		{"clocks differ a little", map[string]time.Time{"ahead": now.Add(time.Hour), "good": now.Add(-time.Hour)}, "ahead", false},
		{"all of the future", map[string]time.Time{adopted: future, "x": now.AddDate(0, 0, 2)}, adopted, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			taken := ""
			take := func(name string) *snapshotdv1.Snapshot {
				taken = name
				return wire.SnapshotToProto(ready())
			}
			env := serve(t, &fake{
				list: func(_ context.Context, r *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
					return newestFirst(tc.times, r), nil
				},
				get: func(_ context.Context, r *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error) {
					return &snapshotdv1.GetResponse{Snapshot: take(r.GetName())}, nil
				},
				update: func(_ context.Context, r *snapshotdv1.UpdateRequest) (*snapshotdv1.UpdateResponse, error) {
					return &snapshotdv1.UpdateResponse{Snapshot: take(r.GetSnapshot().GetName())}, nil
				},
				verify: func(r *snapshotdv1.VerifyRequest, s grpc.ServerStreamingServer[snapshotdv1.VerifyResponse]) error {
					return s.Send(&snapshotdv1.VerifyResponse{Snapshot: take(r.GetName())})
				},
				download: func(r *snapshotdv1.DownloadRequest, s grpc.ServerStreamingServer[snapshotdv1.DownloadResponse]) error {
					take(r.GetName())
					return nil
				},
			})
			for _, args := range []string{
				"get latest", "update latest --pin", "verify latest", "verify latest --backend s3", "download latest",
			} {
				taken = ""
				r := run(t.Context(), env, strings.Fields(args)...)
				if taken != tc.want {
					t.Errorf("%s: took %q, want %q; %s", args, taken, tc.want, r.stderr)
				}
				warning := "warning: left out: " + adopted + " claims to be of 2033-05-18T03:33:19Z, which is in the future"
				if strings.Contains(r.stderr, warning) != tc.warns {
					t.Errorf("%s: %s", args, r.stderr)
				}
			}
		})
	}
}

// newestFirst answers as the service does.
func newestFirst(times map[string]time.Time, r *snapshotdv1.ListRequest) *snapshotdv1.ListResponse {
	var newest *snapshotdv1.Snapshot
	for name, at := range times {
		if until := r.GetCreateTimeUntil(); until != nil && !at.Before(until.AsTime()) ||
			newest != nil && at.Before(newest.GetCreateTime().AsTime()) {
			continue
		}
		s := ready()
		s.Name, s.CreateTime = name, at
		newest = wire.SnapshotToProto(s)
	}
	if newest == nil {
		return &snapshotdv1.ListResponse{}
	}
	return &snapshotdv1.ListResponse{Snapshots: []*snapshotdv1.Snapshot{newest}}
}
