package cli_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestDelete(t *testing.T) {
	env := serve(t, &fake{get: found, remove: func(_ context.Context, r *snapshotdv1.DeleteRequest) (
		*snapshotdv1.DeleteResponse, error,
	) {
		switch {
		case r.GetName() == "locked":
			e := snapshot.ReasonObjectLocked.New("locked is locked until tomorrow")
			return nil, wire.Status(e, "default", nil).Err()
		case len(r.GetBackends()) > 0:
			return &snapshotdv1.DeleteResponse{Snapshot: wire.SnapshotToProto(ready())}, nil
		case r.GetEtag() != "4e1":
			return nil, errors.New("--etag was not sent")
		}
		return &snapshotdv1.DeleteResponse{}, nil
	}})
	for _, tc := range []struct {
		args   string
		code   int
		output string // a part of either output
	}{
		{"delete x --etag 4e1", 0, "x is deleted\n"},
		{"delete x --backend s3", 0, "READY"},
		{"delete locked", 1, "error: locked is locked until tomorrow\n"},
		{"delete latest", 2, "give the NAME"},
		{"delete nowhere", 6, "error: cluster \"default\" has no snapshot \"nowhere\"\n"},
		{"delete", 2, "NAME is missing"},
	} {
		r := run(t.Context(), env, strings.Fields(tc.args)...)
		if r.code != tc.code || !strings.Contains(r.stdout+r.stderr, tc.output) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", tc.args, r.code, r.stdout, r.stderr)
		}
	}
}

// found answers with the snapshot ready, whatever its name, unless it has none of that name.
func found(_ context.Context, r *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error) {
	if name := r.GetName(); name == "latest" || name == "nowhere" {
		e := snapshot.ReasonSnapshotNotFound.New("cluster %q has no snapshot %q", "default", name)
		return nil, wire.Status(e, "default", nil).Err()
	}
	return &snapshotdv1.GetResponse{Snapshot: wire.SnapshotToProto(ready())}, nil
}

// at returns the snapshot with the locations that are left; those named are DELETING.
func at(left []string, deleting ...string) *snapshot.Snapshot {
	var all []snapshot.Location
	for _, l := range ready().Locations() {
		if slices.Contains(deleting, l.Backend) {
			l.State, l.Error = snapshot.StateDeleting, "delete object: connection refused"
		}
		if slices.Contains(left, l.Backend) {
			all = append(all, l)
		}
	}
	return snapshot.WithStatus(*ready(), snapshot.Status{State: snapshot.StateReady, Locations: all})
}

// The output says which copies are gone, and what becomes of the others. The exit code says whether any is gone.
func TestDeleteOfSomeCopies(t *testing.T) {
	down := snapshot.ReasonBackendUnavailable.New(`open backend "s3"`).On("s3").Because(errors.New("connection refused"))
	const cause = "open backend \"s3\": connection refused\n"
	for name, tc := range map[string]struct {
		args   string
		err    error
		left   *snapshot.Snapshot
		code   int
		stderr string
		stdout []string // in it; nothing at all when empty
	}{
		"a backend does not answer": {"", down, at([]string{"s3"}), 3,
			"error: on-demand-n1-1784116740 is gone from local, and not from every backend: " + cause +
				"  s3: READY as before; its removal has not begun: delete it again\n", []string{"s3       READY"}},
		"a removal breaks off": {"", down, at([]string{"s3"}, "s3"), 3,
			"error: on-demand-n1-1784116740 is gone from local, and not from every backend: " + cause +
				"  s3: DELETING, and reconcile goes on with it: delete object: connection refused\n",
			[]string{"s3       DELETING"}},
		"of those that were chosen": {"--backend local", down, at([]string{"s3", "local"}, "local"), 1,
			"error: " + cause + "  local: DELETING, and reconcile goes on with it: delete object: connection refused\n",
			[]string{"local    DELETING", "s3       READY"}},
		"none": {"", down, at([]string{"s3", "local"}), 1, "error: " + cause, nil},
		"none, yet": {"", down, at([]string{"s3", "local"}, "s3", "local"), 1, "error: " + cause +
			"  local: DELETING, and reconcile goes on with it: delete object: connection refused\n" +
			"  s3: DELETING, and reconcile goes on with it: delete object: connection refused\n",
			[]string{"s3       DELETING"}},
		"pinned": {"", snapshot.ReasonPinned.New("delete x: it is pinned"), at([]string{"s3", "local"}), 1,
			"error: delete x: it is pinned\n", nil},
		"changed meanwhile": {"", snapshot.ReasonConflict.New("delete x"), at([]string{"s3", "local"}, "s3"), 5,
			"error: delete x\n", nil},
		"another etag": {"--etag 41", (&snapshot.Record{Snapshot: *ready()}).CheckEtag("41"), at([]string{"s3", "local"}), 5,
			"error: --etag: snapshot \"on-demand-n1-1784116740\" has 42 now and not 41 (get it again, and decide anew)\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			env := serve(t, &fake{get: found, remove: func(context.Context, *snapshotdv1.DeleteRequest) (
				*snapshotdv1.DeleteResponse, error,
			) {
				return nil, wire.Status(tc.err, "default", tc.left).Err()
			}})
			r := run(t.Context(), env, append([]string{"delete", "x"}, strings.Fields(tc.args)...)...)
			if r.code != tc.code || r.stderr != tc.stderr {
				t.Errorf("exit code %d, want %d\nstderr: %s\n  want: %s", r.code, tc.code, r.stderr, tc.stderr)
			}
			if len(tc.stdout) == 0 && r.stdout != "" {
				t.Errorf("nothing is gone, and it shows\n%s", r.stdout)
			}
			for _, want := range tc.stdout {
				if !strings.Contains(r.stdout, want) {
					t.Errorf("no %q in\n%s", want, r.stdout)
				}
			}
		})
	}
}

func TestPrune(t *testing.T) {
	decision := func(name, backend string, stays bool, why string, err error) *snapshotdv1.PruneDecision {
		return wire.DecisionToProto("default", cluster.Decision{
			Name: name, Backend: backend, CreateTime: now, Size: 2048, Stays: stays, Why: why, Err: err,
		})
	}
	down := snapshot.ReasonBackendUnavailable.New("delete: connection refused")
	locked := snapshot.ReasonObjectLocked.New("it is locked until tomorrow")
	denied := snapshot.ReasonBackendAccessDenied.New("delete b").Because(errors.New("permission denied"))
	for name, tc := range map[string]struct {
		b, c   error
		code   int
		stderr string
	}{
		"all": {nil, nil, 0, ""},
		"some": {denied, nil, 3, "error: 1 of 2 snapshots to remove could not be removed, 1 of them because it is not " +
			"allowed (object lock, or access denied)\n  b on local: delete b: permission denied\n"},
		"forbidden": {denied, denied, 3, "error: 2 of 2 snapshots to remove could not be removed, 2 of them because "},
		"none":      {down, down, 1, "error: 2 of 2 snapshots to remove could not be removed\n"},
		"locked": {locked, locked, 3, "error: 2 of 2 snapshots to remove could not be removed, 2 of them because it is not " +
			"allowed (object lock, or access denied)\n  b on local: it is locked until tomorrow\n"},
	} {
		going := map[string][]*snapshotdv1.JournalRemoval{
			"all": {{
				Backend: "local", Timeline: "cdf818194e3a8c32-1784110000", FirstRevision: 1, LastRevision: 40, Segments: 4, SizeBytes: 5000,
				Why: "they are before the oldest snapshot, of revision 44",
			}},
			"none": {{Error: wire.Status(snapshot.ReasonBackendUnavailable.New("local does not answer"), "default", nil).Proto()}},
		}
		t.Run(name, func(t *testing.T) {
			env := serve(t, &fake{prune: func(_ context.Context, r *snapshotdv1.PruneRequest) (*snapshotdv1.PruneResponse,
				error) {
				return &snapshotdv1.PruneResponse{Journal: going[name], Decisions: []*snapshotdv1.PruneDecision{
					decision("a", "local", true, "it is the newest on this backend", nil),
					decision("b", "local", errors.Is(tc.b, locked), "no rule keeps it", tc.b),
					decision("c", "local", errors.Is(tc.c, locked), "no rule keeps it", tc.c),
				}}, nil
			}})
			r := run(t.Context(), env, "prune", "--dry-run")
			if r.code != tc.code || !strings.HasPrefix(r.stderr, tc.stderr) {
				t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
			}
			golden(t, "prune-"+name+".txt", r.stdout)
			if r := run(t.Context(), env, "prune", "--only-removed"); strings.Contains(r.stdout, "\na ") || !strings.Contains(r.stdout, "\nb ") ||
				!strings.Contains(r.stdout, "1 stay (2.0 KiB)") {
				t.Errorf("only what is removed:\n%s", r.stdout)
			}
			if r := run(t.Context(), env, "prune", "--only-removed", "-o", "json"); strings.Contains(r.stdout, `"a"`) {
				t.Errorf("only what is removed, as JSON:\n%s", r.stdout)
			}
		})
	}
}

// When nothing could be removed, the service answers with an error that says why of some of the copies.
func TestPruneThatCouldRemoveNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		why  *snapshot.Error
		code int
	}{
		"down":   {snapshot.ReasonBackendUnavailable.New("connection refused").On("s3"), 1},
		"busy":   {snapshot.ReasonConflict.New("the newest is not there").On("s3"), 1},
		"denied": {snapshot.ReasonBackendAccessDenied.New("permission denied").On("s3"), 3},
	} {
		env := serve(t, &fake{prune: func(context.Context, *snapshotdv1.PruneRequest) (*snapshotdv1.PruneResponse, error) {
			return nil, wire.PruneStatus(fmt.Errorf("none of the 9 copies could be removed; the first: %w", tc.why), "default",
				&snapshotdv1.PruneResponse{Decisions: []*snapshotdv1.PruneDecision{wire.DecisionToProto("default", cluster.Decision{
					Name: "b", Backend: "s3", CreateTime: now, Size: 2048, Why: "no rule keeps it", Err: tc.why,
				})}}).Err()
		}})
		r := run(t.Context(), env, "prune")
		if want := "error: none of the 9 copies could be removed; the first: " + tc.why.Message + "\n"; r.code != tc.code || r.stderr != want {
			t.Errorf("%s: exit code %d, stderr %q", name, r.code, r.stderr)
		}
		if !strings.Contains(r.stdout, "b     s3") || !strings.Contains(r.stdout, "failed") {
			t.Errorf("%s: it shows:\n%s", name, r.stdout)
		}
	}
}
