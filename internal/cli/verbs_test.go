package cli_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// ready is a snapshot that everything is known of.
func ready() *snapshot.Snapshot {
	return snapshot.WithStatus(snapshot.Snapshot{
		Name: "on-demand-n1-1784116740", Cluster: "default", Trigger: snapshot.TriggerManual,
		Labels: map[string]string{"release": "v1.2", "by": "me"}, CreateTime: now.Add(-3 * time.Minute),
		Duration: 2340 * time.Millisecond, Node: "n1", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		EtcdVersion: "3.7.3", StorageVersion: "3.7.0", EtcdClusterID: "cdf818194e3a8c32", EtcdMemberID: "8e9e05c52164694d",
		Revision: 123456, OldestRevision: 120000, TotalKeys: 7890, DBSize: 1 << 30, SHA256: strings.Repeat("ab", 32), Hash: 0xdeadbeef,
		Compression: snapshot.CompressionZstd, StoredSize: 300 << 20, StoredSHA256: strings.Repeat("cd", 32), Etag: "42",
	}, snapshot.Status{
		State: snapshot.StateReady, Locations: []snapshot.Location{
			{Backend: "local", Kind: snapshot.BackendLocal, URI: "file:///srv/default/on-demand-n1-1784116740.db.zst",
				Size: 300 << 20, State: snapshot.StateReady, UpdateTime: now},
			{Backend: "s3", Kind: snapshot.BackendS3, URI: "s3://bucket/default/on-demand-n1-1784116740.db.zst", Size: 300 << 20,
				State: snapshot.StateReady, UpdateTime: now},
		},
	})
}

// without returns the snapshot, FAILED on the named backends.
func without(state snapshot.State, backends ...string) *snapshot.Snapshot {
	const why = "put object: connection refused"
	status := snapshot.Status{State: state, Error: why, Locations: ready().Locations()}
	for i := range status.Locations {
		if l := &status.Locations[i]; slices.Contains(backends, l.Backend) {
			l.State, l.Error, l.Size = snapshot.StateFailed, why, 0
		}
	}
	return snapshot.WithStatus(*ready(), status)
}

func failing(err error, s *snapshot.Snapshot) *fake {
	return &fake{save: func(context.Context, *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error) {
		return nil, wire.Status(err, "default", s).Err()
	}}
}

func TestSaveFails(t *testing.T) {
	down := snapshot.ReasonBackendUnavailable.New(`put "x" to backend "s3"`).On("s3").Because(errors.New("connection " +
		"refused"))
	for name, tc := range map[string]struct {
		err    error
		s      *snapshot.Snapshot
		code   int
		stderr string
		stdout string // a part of it; empty: nothing
	}{
		"partial": {down, without(snapshot.StatePartial, "s3"), 3,
			"error: snapshot on-demand-n1-1784116740 is PARTIAL: not every backend has it\n" +
				"  local: READY, 300 MiB at file:///srv/default/on-demand-n1-1784116740.db.zst\n" +
				"  s3: FAILED: put object: connection refused\n", "local, s3 (FAILED)"},
		"failed": {down, without(snapshot.StateFailed, "s3", "local"), 1,
			"error: put \"x\" to backend \"s3\": connection refused\n", "FAILED"},
		"etcd is down": {snapshot.ReasonEtcdUnavailable.New("read etcd").Because(errors.New("no member answers")), nil, 1,
			"error: read etcd: no member answers\n", ""},
		"busy": {snapshot.ReasonSaveInProgress.New("save cluster \"default\": another save is running"), nil, 5,
			"error: save cluster \"default\": another save is running\n", ""},
		"a limit": {snapshot.ReasonLimitReached.New("limits.saves_per_minute"), nil, 5,
			"error: limits.saves_per_minute\n", ""},
		"another replica died": {snapshot.ReasonInterrupted.New("interrupted"), nil, 1, "error: interrupted\n", ""},
		"no such cluster": {snapshot.ReasonClusterNotFound.New("there is no cluster \"x\""), nil, 6,
			"error: there is no cluster \"x\"\n", ""},
		"invalid": {snapshot.Invalid("backends", "cluster %q has no backend %q", "default", "x"), nil, 2,
			"error: --backend: cluster \"default\" has no backend \"x\"\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t.Context(), serve(t, failing(tc.err, tc.s)), "save")
			if r.code != tc.code || r.stderr != tc.stderr {
				t.Errorf("exit code %d, want %d\nstderr: %s\n  want: %s", r.code, tc.code, r.stderr, tc.stderr)
			}
			if tc.stdout == "" && r.stdout != "" || !strings.Contains(r.stdout, tc.stdout) {
				t.Errorf("stdout: %s\n  want: %s", r.stdout, tc.stdout)
			}
		})
	}
}

func TestSaveSendsWhatIsAsked(t *testing.T) {
	var got []*snapshotdv1.SaveRequest
	env := serve(t, &fake{save: func(_ context.Context, r *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error) {
		got = append(got, r)
		return &snapshotdv1.SaveResponse{
			Snapshot: wire.SnapshotToProto(ready()), Warnings: []string{"the catalog was not written"},
		}, nil
	}})
	env["SNAPSHOTD_CLUSTER"] = "prod"
	for range 2 {
		r := run(t.Context(), env, "save", "--name-prefix", "p", "--label", "a=b,c=d", "--backend", "local,s3")
		if r.code != 0 || r.stderr != "warning: the catalog was not written\n" {
			t.Fatalf("exit code %d, standard error %q", r.code, r.stderr)
		}
	}
	r := got[0]
	if r.GetCluster() != "prod" || r.GetNamePrefix() != "p" || r.GetLabels()["a"] != "b,c=d" ||
		strings.Join(r.GetBackends(), " ") != "local s3" {
		t.Errorf("sent %v", r)
	}
	if len(got[0].GetRequestId()) < 16 || got[0].GetRequestId() == got[1].GetRequestId() {
		t.Errorf("request ids %q and %q", got[0].GetRequestId(), got[1].GetRequestId())
	}
}

func TestFormats(t *testing.T) {
	s := wire.SnapshotToProto(ready())
	partial := wire.SnapshotToProto(without(snapshot.StatePartial, "s3"))
	partial.Pinned = true
	partial.Proof = &snapshotdv1.Verification{
		Level: snapshotdv1.Verification_LEVEL_DRILL, State: snapshotdv1.Verification_STATE_PASSED, Backends: []string{"local"},
		Time: timestamppb.New(now.Add(-50 * time.Hour)),
	}
	env := serve(t, &fake{
		save: func(context.Context, *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error) {
			return &snapshotdv1.SaveResponse{Snapshot: s}, nil
		},
		get: func(context.Context, *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error) {
			return &snapshotdv1.GetResponse{Snapshot: partial}, nil
		},
		list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
			saving := &snapshotdv1.Snapshot{
				Name: "on-demand-n1-1784116800", State: snapshotdv1.Snapshot_STATE_SAVING, CreateTime: timestamppb.New(now),
			}
			return &snapshotdv1.ListResponse{Snapshots: []*snapshotdv1.Snapshot{saving, s, partial}}, nil
		},
		reconcile: func(context.Context, *snapshotdv1.ReconcileRequest) (*snapshotdv1.ReconcileResponse, error) {
			return &snapshotdv1.ReconcileResponse{Backends: []*snapshotdv1.BackendReconciliation{
				{Cluster: "default", Backend: "local", Listed: 12, Unchanged: 10, Added: 1, Updated: 1, Removed: 3, Foreign: 4},
			}}, nil
		},
	})
	for _, verb := range []string{"save", "get x", "list", "reconcile"} {
		for _, f := range []string{"table", "wide", "json", "yaml"} {
			if f == "wide" && verb != "list" {
				continue // the same as the table
			}
			r := run(t.Context(), env, append(strings.Fields(verb), "-o", f)...)
			if r.code != 0 || r.stderr != "" {
				t.Errorf("%s: exit code %d, standard error %q", verb, r.code, r.stderr)
			}
			golden(t, strings.Fields(verb)[0]+"."+strings.ReplaceAll(f, "table", "txt"), r.stdout)
		}
	}
}

func TestReconcileFails(t *testing.T) {
	report := func(backend string, err error) *snapshotdv1.BackendReconciliation {
		return wire.ReportToProto(cluster.BackendReport{Cluster: "default", Backend: backend, Err: err})
	}
	denied := snapshot.ReasonBackendAccessDenied.New("list").Because(errors.New("permission denied"))
	for name, tc := range map[string]struct {
		local, s3 error
		code      int
		stderr    string
	}{
		"no backend": {nil, nil, 0, ""},
		"one backend": {nil, denied, 3,
			"error: 1 of 2 backends could not be reconciled; nothing that they hold was forgotten\n  s3 of cluster default: " +
				"list: permission denied\n"},
		"every backend": {denied, denied, 1, "error: 2 of 2 backends could not be reconciled;"},
	} {
		t.Run(name, func(t *testing.T) {
			env := serve(t, &fake{reconcile: func(_ context.Context,
				r *snapshotdv1.ReconcileRequest) (*snapshotdv1.ReconcileResponse, error) {
				if !r.GetValidateOnly() {
					return nil, errors.New("--dry-run was not sent")
				}
				return &snapshotdv1.ReconcileResponse{
					Backends: []*snapshotdv1.BackendReconciliation{report("local", tc.local), report("s3", tc.s3)},
				}, nil
			}})
			for _, f := range []string{"table", "json"} {
				r := run(t.Context(), env, "reconcile", "--dry-run", "-o", f)
				if r.code != tc.code || !strings.HasPrefix(r.stderr, tc.stderr) || !strings.Contains(r.stdout, "local") {
					t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s\n  want: %s",
						r.code, tc.code, r.stdout, r.stderr, tc.stderr)
				}
			}
		})
	}
}

func TestAWrongFieldHasTheNameOfItsFlag(t *testing.T) {
	env := serve(t, &fake{reconcile: func(context.Context, *snapshotdv1.ReconcileRequest) (*snapshotdv1.ReconcileResponse, error) {
		return nil, wire.Status(snapshot.Invalid("retire_nodes", "%q is this replica's own", "n1"), "default", nil).Err()
	}})
	r := run(t.Context(), env, "reconcile", "--retire-node", "n1")
	if want := "error: --retire-node: \"n1\" is this replica's own\n"; r.code != 2 || r.stderr != want {
		t.Errorf("exit code %d: %s, want %s", r.code, r.stderr, want)
	}
}

// The results of clusters that were reconciled are shown beside the errors of those that failed, as a whole or in part.
func TestReconcileOfSeveralClusters(t *testing.T) {
	report := func(cluster, backend string, err error) *snapshotdv1.BackendReconciliation {
		r := &snapshotdv1.BackendReconciliation{Cluster: cluster, Backend: backend, Listed: 7}
		if err != nil {
			r.Error = wire.Status(err, cluster, nil).Proto()
		}
		return r
	}
	down := snapshot.ReasonCatalogUnavailable.New("its catalog does not answer")
	env := serve(t, &fake{reconcile: func(context.Context, *snapshotdv1.ReconcileRequest) (*snapshotdv1.ReconcileResponse, error) {
		return &snapshotdv1.ReconcileResponse{Backends: []*snapshotdv1.BackendReconciliation{
			report("a", "local", nil), report("b", "", down), report("c", "s3", nil),
		}}, nil
	}})
	r := run(t.Context(), env, "reconcile")
	if r.code != 3 || !strings.Contains(r.stderr, "\n  cluster b: its catalog does not answer") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	for _, row := range []string{`(?m)^a +local +7 .*ok$`, `(?m)^b +- .*failed$`, `(?m)^c +s3 +7 .*ok$`} {
		if !regexp.MustCompile(row).MatchString(r.stdout) {
			t.Errorf("no row %s in\n%s", row, r.stdout)
		}
	}
}

func TestReconcileShowsTheJournal(t *testing.T) {
	journal := []*snapshotdv1.JournalReconciliation{
		{Cluster: "default", Backend: "local", Segments: 3, SizeBytes: 4096, LackingRevisions: 5, DamagedSegments: 1},
		{Cluster: "default", Backend: "s3"},
	}
	env := serve(t, &fake{reconcile: func(context.Context, *snapshotdv1.ReconcileRequest) (*snapshotdv1.ReconcileResponse, error) {
		return &snapshotdv1.ReconcileResponse{
			Backends: []*snapshotdv1.BackendReconciliation{{Cluster: "default", Backend: "local"}}, Journal: journal,
		}, nil
	}})
	line := "journal on local of cluster default: segments %s: 3 (4.0 KiB); revisions that another backend has and it lacks: 5; " +
		"damaged segments: 1\n"
	for args, copied := range map[string]string{"--repair": "copied", "--repair --dry-run": "to copy"} {
		r := run(t.Context(), env, append([]string{"reconcile"}, strings.Fields(args)...)...)
		if want := fmt.Sprintf(line, copied); r.code != 0 || !strings.HasSuffix(r.stdout, want) {
			t.Errorf("%s: exit code %d, and not %q at the end of\n%s", args, r.code, want, r.stdout)
		}
	}
	journal[1].Error = status.New(codes.Unavailable, "list the journal: the backend is away").Proto()
	r := run(t.Context(), env, "reconcile")
	if want := "\n  s3 of cluster default: list the journal: the backend is away"; r.code != 3 || !strings.Contains(r.stderr, want) {
		t.Errorf("exit code %d, and not %q in %s", r.code, want, r.stderr)
	}
}

func TestRecordsThatCannotBeReadAreShown(t *testing.T) {
	const mend = "read the record under \"/k\": it is damaged (remove the key (etcdctl del /k) and reconcile)"
	bad := []*snapshotdv1.UnreadableRecord{{Cluster: "default", Key: "/k", Error: mend}}
	counted := []*snapshotdv1.BackendReconciliation{{Cluster: "default", Backend: "local", Listed: 12}}
	alone := false
	env := serve(t, &fake{
		list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
			return &snapshotdv1.ListResponse{
				Snapshots: []*snapshotdv1.Snapshot{wire.SnapshotToProto(ready())}, Unreadable: bad,
			}, nil
		},
		reconcile: func(context.Context, *snapshotdv1.ReconcileRequest) (*snapshotdv1.ReconcileResponse, error) {
			resp := &snapshotdv1.ReconcileResponse{Backends: counted, Unreadable: bad}
			if alone {
				return nil, wire.ReconcileStatus(snapshot.ReasonCatalogUnavailable.New(mend), "default", resp).Err()
			}
			return resp, nil
		},
	})
	for _, c := range []struct {
		verb   string
		alone  bool
		stderr string
		code   int
	}{
		{"list", false, "warning: left out: " + mend, 0}, {"reconcile", false, "warning: left out: " + mend, 0},
		{"reconcile", true, "error: " + mend, 1},
	} {
		alone = c.alone
		r := run(t.Context(), env, c.verb)
		if r.code != c.code || !strings.Contains(r.stdout, "local") || !strings.HasPrefix(r.stderr, c.stderr) {
			t.Errorf("%s: exit code %d\nstdout: %s\nstderr: %s", c.verb, r.code, r.stdout, r.stderr)
		}
	}
}

// One watch of one cluster needs no column for it.
func TestWatchOfOneClusterDoesNotNameIt(t *testing.T) {
	env := serve(t, &fake{watch: func(_ *snapshotdv1.WatchRequest,
		stream grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
		return errors.Join(stream.Send(&snapshotdv1.WatchResponse{
			Type: snapshotdv1.WatchResponse_TYPE_STARTED, Time: timestamppb.New(now), Cluster: "prod", Name: "x",
		}), wire.Status(snapshot.ReasonWatchExpired.New("the token is too old"), "", nil).Err())
	}})
	if r := run(t.Context(), env, "watch", "--cluster", "prod"); r.stdout != "2026-07-15T12:00:00Z  STARTED        x\n" {
		t.Errorf("one cluster: %q", r.stdout)
	}
	if r := run(t.Context(), env, "watch"); r.stdout != "2026-07-15T12:00:00Z  STARTED        prod  x\n" {
		t.Errorf("all clusters: %q", r.stdout)
	}
}

func TestListReadsAllPages(t *testing.T) {
	const there = 1200
	var requests []*snapshotdv1.ListRequest
	expire := true
	env := serve(t, &fake{list: func(_ context.Context, r *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
		requests = append(requests, r)
		from := 0
		if r.GetPageToken() != "" {
			if expire {
				expire = false
				return nil, wire.Status(snapshot.ReasonPageTokenExpired.New("compacted"), "", nil).Err()
			}
			_, _ = fmt.Sscan(r.GetPageToken(), &from)
		}
		resp := &snapshotdv1.ListResponse{}
		for i := from; i < min(from+int(r.GetPageSize()), there); i++ {
			resp.Snapshots = append(resp.Snapshots, &snapshotdv1.Snapshot{Name: fmt.Sprint("s", i)})
		}
		if next := from + int(r.GetPageSize()); next < there {
			resp.NextPageToken = fmt.Sprint(next)
		}
		return resp, nil
	}})
	if r := run(t.Context(), env, "list"); r.code != 0 || strings.Count(r.stdout, "\n") != there+1 {
		t.Errorf("exit code %d, %d lines, %s", r.code, strings.Count(r.stdout, "\n"), r.stderr)
	}
	if r := run(t.Context(), env, "list", "--limit", "700"); r.code != 0 || strings.Count(r.stdout, "\n") != 701 {
		t.Errorf("exit code %d, %d lines, %s", r.code, strings.Count(r.stdout, "\n"), r.stderr)
	}
	requests = nil
	run(t.Context(), env, "list", "--state", "ready,PARTIAL", "--backend", "s3", "--label", "a=b", "--since", "2d",
		"--until", "2026-07-15T11:00:00Z")
	r := requests[0]
	if fmt.Sprint(r.GetStates()) != "[STATE_READY STATE_PARTIAL]" || r.GetBackend() != "s3" || r.GetLabels()["a"] != "b" ||
		!r.GetCreateTimeFrom().AsTime().Equal(now.AddDate(0, 0, -2)) ||
		!r.GetCreateTimeUntil().AsTime().Equal(now.Add(-time.Hour)) {
		t.Errorf("sent %v", r)
	}
}

func TestGetOfTheNewest(t *testing.T) {
	var got string
	env := serve(t, &fake{
		list: func(_ context.Context, r *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
			if fmt.Sprint(r.GetStates()) != "[STATE_READY STATE_PARTIAL]" || r.GetCluster() != "prod" {
				t.Errorf("asked for %v", r)
			}
			return &snapshotdv1.ListResponse{Snapshots: []*snapshotdv1.Snapshot{{Name: "newest"}}}, nil
		},
		get: func(_ context.Context, r *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error) {
			got = r.GetName()
			return &snapshotdv1.GetResponse{Snapshot: wire.SnapshotToProto(ready())}, nil
		},
	})
	if r := run(t.Context(), env, "get", "latest", "--cluster", "prod"); r.code != 0 || got != "newest" {
		t.Errorf("exit code %d, asked for %q; %s", r.code, got, r.stderr)
	}
}

func TestGetOfNothing(t *testing.T) {
	env := serve(t, &fake{get: func(context.Context, *snapshotdv1.GetRequest) (*snapshotdv1.GetResponse, error) {
		return nil, wire.Status(snapshot.ReasonSnapshotNotFound.New(`cluster "default" has no snapshot "x"`), "", nil).Err()
	}})
	if r := run(t.Context(), env, "get", "x"); r.code != 6 ||
		r.stderr != "error: cluster \"default\" has no snapshot \"x\"\n" {
		t.Errorf("exit code %d, want 6; %s", r.code, r.stderr)
	}
}

func TestWatch(t *testing.T) {
	s := wire.SnapshotToProto(without(snapshot.StatePartial, "s3"))
	event := func(typ snapshotdv1.WatchResponse_Type, after time.Duration) *snapshotdv1.WatchResponse {
		return &snapshotdv1.WatchResponse{
			Type: typ, Time: timestamppb.New(now.Add(after)), Cluster: "default", Name: s.GetName(),
		}
	}
	progress := func(backend string, done int64, after time.Duration) *snapshotdv1.WatchResponse {
		ev := event(snapshotdv1.WatchResponse_TYPE_PROGRESS, after)
		ev.Backend, ev.DoneBytes, ev.TotalBytes = backend, done, 1<<30
		return ev
	}
	located := event(snapshotdv1.WatchResponse_TYPE_LOCATION_DONE, 3*time.Second)
	located.Backend, located.Snapshot = "s3", s
	finished := event(snapshotdv1.WatchResponse_TYPE_FINISHED, 4*time.Second)
	finished.Snapshot = s
	finished.Snapshot.Duration = durationpb.New(4 * time.Second)
	env := serve(t, &fake{watch: func(_ *snapshotdv1.WatchRequest,
		stream grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
		for _, ev := range []*snapshotdv1.WatchResponse{
			event(snapshotdv1.WatchResponse_TYPE_STARTED, 0), progress("", 1<<20, 0), progress("", 2<<20, 100*time.Millisecond),
			progress("s3", 1<<20, 200*time.Millisecond), progress("", 3<<20, 1100*time.Millisecond), located, finished,
		} {
			if err := stream.Send(ev); err != nil {
				return err
			}
		}
		return wire.Status(snapshot.ReasonWatchExpired.New("the token is too old"), "", nil).Err()
	}})
	for _, f := range []string{"table", "json", "yaml"} {
		r := run(t.Context(), env, "watch", "-o", f)
		if r.code != 1 || r.stderr != "error: the token is too old\n" {
			t.Errorf("exit code %d, want 1; %s", r.code, r.stderr)
		}
		golden(t, "watch."+strings.ReplaceAll(f, "table", "txt"), r.stdout)
	}
}

func TestWatchEndsInTime(t *testing.T) {
	t.Parallel()
	env := serve(t, &fake{watch: func(_ *snapshotdv1.WatchRequest,
		stream grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
		if err := stream.Send(&snapshotdv1.WatchResponse{Type: snapshotdv1.WatchResponse_TYPE_POSITION}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}})
	if r := run(t.Context(), env, "watch", "--timeout", "500ms"); r.code != 1 ||
		r.stderr != "error: the watch has ended: its time is over (--timeout 500ms)\n" {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}

func TestWhatToDoWithoutTheCatalog(t *testing.T) {
	env := serve(t, &fake{list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
		return nil, wire.Status(snapshot.ReasonCatalogUnavailable.New("list the records"), "", nil).Err()
	}})
	if r := run(t.Context(), env, "list"); r.code != 1 || !strings.HasSuffix(r.stderr,
		"need no catalog with --from URL, and save none as long as a member of etcd answers\n") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}

func TestWatchGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	var asked []string
	broken := []error{
		status.Error(codes.Unavailable, "error reading from server: EOF"),
		wire.Status(snapshot.ReasonShuttingDown.New("shutting down"), "", nil).Err(),
		wire.Status(snapshot.ReasonSlowConsumer.New("too slow"), "", nil).Err(),
		wire.Status(snapshot.ReasonWatchExpired.New("too old"), "", nil).Err(),
	}
	env := serve(t, &fake{watch: func(r *snapshotdv1.WatchRequest,
		stream grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
		n := len(asked)
		asked = append(asked, r.GetResumeToken())
		for _, ev := range []*snapshotdv1.WatchResponse{
			{Type: snapshotdv1.WatchResponse_TYPE_POSITION, ResumeToken: fmt.Sprint(n)},
			{Type: snapshotdv1.WatchResponse_TYPE_STARTED, Time: timestamppb.New(now), Name: fmt.Sprint("s", n),
				ResumeToken: fmt.Sprint("t", n)},
			{Type: snapshotdv1.WatchResponse_TYPE_PROGRESS, Time: timestamppb.New(now), Name: fmt.Sprint("s", n)},
		} {
			if err := stream.Send(ev); err != nil {
				return err
			}
		}
		return broken[n]
	}})
	r := run(t.Context(), env, "watch", "--resume", "t")
	if got := strings.Join(asked, " "); got != "t t0 t1 t2" {
		t.Errorf("resumed after %s", got)
	}
	if r.code != 1 || strings.Count(r.stderr, "warning: the watch broke off: ") != 3 ||
		!strings.HasSuffix(r.stderr, "error: too old\n") ||
		!strings.Contains(r.stderr, "shutting down; trying again in 200ms, going on after the last event shown") {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
	if strings.Count(r.stdout, "STARTED") != 4 || strings.Contains(r.stdout, "POSITION") {
		t.Errorf("shown: %s", r.stdout)
	}
}

func TestInterruptedSaveIsCancelled(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	cancelled := make(chan struct{})
	env := serve(t, &fake{save: func(ctx context.Context, _ *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error) {
		interrupt()
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	}})
	if r := run(ctx, env, "save"); r.code != 130 || r.stderr != "interrupted\n" {
		t.Errorf("exit code %d, want 130; %s", r.code, r.stderr)
	}
	<-cancelled
}

func TestTimeout(t *testing.T) {
	env := serve(t, &fake{list: func(ctx context.Context, _ *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	r := run(t.Context(), env, "list", "--timeout", "1ms")
	if want := "did not answer within 1ms (--timeout)"; r.code != 1 || !strings.Contains(r.stderr, want) {
		t.Errorf("exit code %d, want 1; %s, want %s", r.code, r.stderr, want)
	}
}

// A deadline that something between here and the service has set is not that of the flag.
func TestTimeoutThatNobodyAskedFor(t *testing.T) {
	late := func() error { return status.Error(codes.DeadlineExceeded, "upstream request timeout") }
	env := serve(t, &fake{
		list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) { return nil, late() },
		watch: func(_ *snapshotdv1.WatchRequest, s grpc.ServerStreamingServer[snapshotdv1.WatchResponse]) error {
			if err := s.Send(&snapshotdv1.WatchResponse{Type: snapshotdv1.WatchResponse_TYPE_POSITION}); err != nil {
				return err
			}
			return late()
		},
	})
	for _, verb := range []string{"list", "watch"} {
		if r := run(t.Context(), env, verb); r.code != 1 || r.stderr != "error: upstream request timeout\n" {
			t.Errorf("%s: exit code %d: %s", verb, r.code, r.stderr)
		}
	}
}

// The service sees the deadline, too, and may be the first to say so.
func TestTimeoutThatTheServiceSeesFirst(t *testing.T) {
	env := serve(t, &fake{list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
		return nil, wire.Status(snapshot.ReasonCancelled.New("list").Because(context.DeadlineExceeded), "", nil).Err()
	}})
	r := run(t.Context(), env, "list", "--timeout", "1d")
	if want := "did not answer within 24h0m0s (--timeout)"; r.code != 1 || !strings.Contains(r.stderr, want) {
		t.Errorf("exit code %d, want 1; %s, want %s", r.code, r.stderr, want)
	}
}

func TestConnectionThatBreaksOff(t *testing.T) {
	env := serve(t, &fake{save: func(context.Context, *snapshotdv1.SaveRequest) (*snapshotdv1.SaveResponse, error) {
		return nil, status.Error(codes.Unavailable, "error reading from server: EOF")
	}})
	r := run(t.Context(), env, "save")
	if want := ": the connection broke off before the answer; the request may have been carried out (list shows " +
		"it)\n"; r.code != 1 || !strings.HasSuffix(r.stderr, want) {
		t.Errorf("exit code %d, want 1; %s, want %s", r.code, r.stderr, want)
	}
}

func TestNoSuchHost(t *testing.T) {
	r := run(t.Context(), nil, "list", "--addr", "nowhere.invalid", "--plaintext")
	if want := "error: reach the service at nowhere.invalid:7379: there is no such host (--addr)\n"; r.code != 1 ||
		r.stderr != want {
		t.Errorf("exit code %d, want 1; %s, want %s", r.code, r.stderr, want)
	}
}

func TestAnotherServiceAnswers(t *testing.T) {
	env := serve(t, &fake{list: (&snapshotdv1.UnimplementedSnapshotServiceServer{}).List})
	if r := run(t.Context(), env, "list"); r.code != 1 || !strings.Contains(r.stderr, "is no snapshotd, or an older one") {
		t.Errorf("exit code %d, want 1; %s", r.code, r.stderr)
	}
}

// Only services on this machine are called in plaintext without a flag.
func TestTLSIsTheDefaultForOtherMachines(t *testing.T) {
	env := serve(t, &fake{list: func(context.Context, *snapshotdv1.ListRequest) (*snapshotdv1.ListResponse, error) {
		return &snapshotdv1.ListResponse{}, nil
	}})
	_, port, err := net.SplitHostPort(env["SNAPSHOTD_ADDR"])
	if err != nil {
		t.Fatal(err)
	}
	// 0.0.0.0 is this machine, but no address of it that the command knows.
	other := net.JoinHostPort("0.0.0.0", port)
	if r := run(t.Context(), nil, "list", "--addr", other); r.code != 1 || !strings.Contains(r.stderr,
		"it speaks no TLS; --plaintext if the network is to be trusted") {
		t.Errorf("exit code %d, want 1; %s", r.code, r.stderr)
	}
	if r := run(t.Context(), nil, "list", "--addr", other, "--plaintext"); r.code != 0 {
		t.Errorf("exit code %d, want 0; %s", r.code, r.stderr)
	}
}
