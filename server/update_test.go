package server_test

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestUpdateChangesWhatTheMaskNames(t *testing.T) {
	var asked string
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", update: func(_ context.Context, req cluster.UpdateRequest) (*snapshot.Record, error) {
			asked = fmt.Sprint(req.Name, " ", req.Labels == nil, len(req.Labels), req.Pinned != nil && *req.Pinned)
			return &snapshot.Record{Snapshot: snapshot.Snapshot{Name: req.Name}}, nil
		}})
	c := r.client(t)
	for _, tc := range []struct {
		paths []string
		want  string
	}{
		{[]string{"pinned"}, "x true 0 true"},
		{[]string{"labels"}, "x false 1 false"},
		{[]string{"labels", "pinned"}, "x false 1 true"},
	} {
		m := &snapshotdv1.Snapshot{Name: "x", Pinned: true, Labels: map[string]string{"a": "b"}}
		resp, err := c.Update(t.Context(), &snapshotdv1.UpdateRequest{
			Snapshot: m, UpdateMask: &fieldmaskpb.FieldMask{Paths: tc.paths},
		})
		if err != nil || resp.GetSnapshot().GetName() != "x" || asked != tc.want {
			t.Errorf("%q: asked %q, want %q: %v", tc.paths, asked, tc.want, err)
		}
	}
	for _, paths := range [][]string{nil, {"state"}} {
		_, err := c.Update(t.Context(), &snapshotdv1.UpdateRequest{
			Snapshot: &snapshotdv1.Snapshot{Name: "x"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
		})
		checkError(t, err, codes.InvalidArgument, snapshot.ReasonInvalidArgument)
	}
}
