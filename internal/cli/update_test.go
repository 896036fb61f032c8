package cli_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestUpdate(t *testing.T) {
	s := wire.SnapshotToProto(ready())
	s.Labels = map[string]string{"a": "1", "b": "2"}
	var sent string
	env := serve(t, &fake{
		list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
			return &snapshotdv1.ListResponse{Snapshots: []*snapshotdv1.Snapshot{s}}, nil
		},
		get: func(_ context.Context, r *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error) {
			if r.GetName() == "latest" {
				t.Error("asked for a snapshot that is called latest")
			}
			return &snapshotdv1.GetResponse{Snapshot: s}, nil
		},
		update: func(_ context.Context, r *snapshotdv1.UpdateRequest) (*snapshotdv1.UpdateResponse, error) {
			m := r.GetSnapshot()
			sent = fmt.Sprint(r.GetUpdateMask().GetPaths(), m.GetLabels(), m.GetPinned(), m.GetEtag() == s.GetEtag())
			return &snapshotdv1.UpdateResponse{Snapshot: s}, nil
		},
	})
	for _, tc := range []struct {
		args, sent, stderr string
		code               int
	}{
		{"update x --pin", "[pinned] map[a:1 b:2] true true", "", 0},
		{"update latest --pin", "[pinned] map[a:1 b:2] true true", "", 0},
		{"update x --unpin", "[pinned] map[a:1 b:2] false true", "", 0},
		{"update x --label b=3 --label c= --remove-label a", "[labels] map[b:3 c:] false true", "", 0},
		{"update x --pin --label c=4", "[labels pinned] map[a:1 b:2 c:4] true true", "", 0},
		{"update x", "", "nothing to change is given", 2},
		{"update x --pin --unpin", "", "--pin is given, too", 2},
	} {
		sent = ""
		r := run(t.Context(), env, strings.Fields(tc.args)...)
		if r.code != tc.code || sent != tc.sent || !strings.Contains(r.stderr, tc.stderr) {
			t.Errorf("%s: exit code %d, sent %q, stderr %q", tc.args, r.code, sent, r.stderr)
		}
	}
}

// A change that the catalog has, and a backend has not, is partial; one that came too late was not made.
func TestUpdateFails(t *testing.T) {
	down := snapshot.ReasonBackendUnavailable.New(`put "x.json" to backend "s3"`).On("s3").
		Because(errors.New("connection refused"))
	for name, tc := range map[string]struct {
		err    error
		s      *snapshot.Snapshot
		code   int
		stderr string
		stdout string // a part of it; empty: nothing
	}{
		"a backend does not answer": {down, ready(), 3,
			"error: the catalog has the change of x, and not every backend: put \"x.json\" to backend \"s3\": connection " +
				"refused\n  the same command again writes what is missing\n", "s3       READY"},
		"the catalog does not answer": {snapshot.ReasonCatalogUnavailable.New("no quorum"), nil, 1, "error: no quorum\n", ""},
		"changed meanwhile": {(&snapshot.Record{Snapshot: *ready()}).CheckEtag("41"), nil, 5,
			"error: x was changed meanwhile, and this change was not made; look at it again, and decide anew\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			env := serve(t, &fake{get: found, update: func(context.Context, *snapshotdv1.UpdateRequest) (
				*snapshotdv1.UpdateResponse, error,
			) {
				return nil, wire.Status(tc.err, "default", tc.s).Err()
			}})
			r := run(t.Context(), env, "update", "x", "--pin")
			if r.code != tc.code || !strings.HasPrefix(r.stderr, tc.stderr) {
				t.Errorf("exit code %d, want %d\nstderr: %s\n  want: %s", r.code, tc.code, r.stderr, tc.stderr)
			}
			if tc.stdout == "" && r.stdout != "" || !strings.Contains(r.stdout, tc.stdout) {
				t.Errorf("stdout: %s\n  want: %s", r.stdout, tc.stdout)
			}
		})
	}
}
