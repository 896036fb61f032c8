package cli_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// judged is a cluster with a verdict.
func judged(name string, v snapshotdv1.Cluster_Verdict, findings ...*snapshotdv1.Cluster_Finding) *snapshotdv1.Cluster {
	return &snapshotdv1.Cluster{Name: name, Verdict: v, Findings: findings}
}

// TestStatusShowsTheClusters has one of each verdict, with all that is known of the first.
func TestStatusShowsTheClusters(t *testing.T) {
	prod := judged("prod", snapshotdv1.Cluster_VERDICT_NOT_SAFE,
		&snapshotdv1.Cluster_Finding{
			Verdict: snapshotdv1.Cluster_VERDICT_NOT_SAFE, Text: "The last save failed: etcd does not answer", Command: []string{"save"},
		},
		&snapshotdv1.Cluster_Finding{
			Verdict: snapshotdv1.Cluster_VERDICT_ATTENTION, Text: "1 copy is waiting to be brought to s3; it is tried again by itself.",
			Command: []string{"reconcile", "--repair"},
		})
	prod.NewestReady, prod.Saving = wire.SnapshotToProto(ready()), wire.SnapshotToProto(ready())
	prod.ProvenTime, prod.Leader, prod.UploadsWaiting = timestamppb.New(now.Add(-26*time.Hour)), "n1", 1
	prod.Progress = &snapshotdv1.Cluster_Progress{ReadBytes: 100 << 20, TotalBytes: 1 << 30}
	prod.Backends = []*snapshotdv1.Cluster_Backend{
		{Name: "local", Url: "file:///srv", Snapshots: 12, SizeBytes: 3 << 30, FreeBytes: 9 << 30, Newest: "a",
			LastState: snapshotdv1.Snapshot_STATE_READY},
		{Name: "s3", Url: "s3://bucket?endpoint=https://s3.example", Snapshots: -1, SizeBytes: -1, FreeBytes: -1},
	}
	prod.Schedules = []*snapshotdv1.Cluster_Schedule{
		{Name: "hourly", Cron: "@hourly", NextTime: timestamppb.New(now.Add(10 * time.Minute)), LastTime: timestamppb.New(now.Add(-50 * time.Minute)),
			LastSnapshot: "a", LastState: snapshotdv1.Snapshot_STATE_PARTIAL},
		{Name: "nightly", Cron: "0 3 * * *", TimeZone: "Europe/Berlin", NextTime: timestamppb.New(now.Add(-2 * time.Hour)), Overdue: true},
	}
	prod.RecoveryWindow = &snapshotdv1.RecoveryWindow{
		Journaled: true, Endpoint: "http://10.0.0.1:2379", RecoveryPoints: recoveryPoints(), LagRevisions: proto.Int64(12),
	}
	const lost = "The catalog cannot be read."
	env := serve(t, &fake{clusters: []*snapshotdv1.Cluster{
		prod,
		judged("stage", snapshotdv1.Cluster_VERDICT_SAFE),
		judged("lost", snapshotdv1.Cluster_VERDICT_UNKNOWN, &snapshotdv1.Cluster_Finding{
			Verdict: snapshotdv1.Cluster_VERDICT_UNKNOWN, Text: lost, Command: []string{"list", "--from", "s3://b?x=1&y=2"},
		}),
	}})
	for name, args := range map[string][]string{
		"status.txt": nil, "status-wide.txt": {"-o", "wide"}, "status.json": {"-o", "json"}, "status.yaml": {"-o", "yaml"},
	} {
		r := run(t.Context(), env, append([]string{"status"}, args...)...)
		if r.code != 4 || r.stderr != "error: 1 of 3 clusters not safe\n" {
			t.Errorf("%s: exit code %d, %q", name, r.code, r.stderr)
		}
		golden(t, name, r.stdout)
	}
	one := run(t.Context(), env, "status", "--cluster", "lost")
	if one.code != 1 || !strings.Contains(one.stdout, lost+"\n    snapshotd list --from 's3://b?x=1&y=2' --cluster lost\n") {
		t.Errorf("one cluster: exit code %d\n%s", one.code, one.stdout)
	}
	if none := run(t.Context(), env, "status", "--cluster", "none"); none.code != 6 {
		t.Errorf("no cluster: exit code %d, %s", none.code, none.stderr)
	}
}

// TestStatusPrintsCommandsThatCanBePasted: they reach the same service and cluster. Those with --from reach no service,
// and look where the cluster's snapshots are.
func TestStatusPrintsCommandsThatCanBePasted(t *testing.T) {
	finding := func(command ...string) *snapshotdv1.Cluster_Finding {
		return &snapshotdv1.Cluster_Finding{Verdict: snapshotdv1.Cluster_VERDICT_ATTENTION, Text: "so", Command: command}
	}
	cluster := func(name string) *snapshotdv1.Cluster {
		return judged(name, snapshotdv1.Cluster_VERDICT_ATTENTION, finding("save"), finding("list", "--from", "s3://b"),
			finding("list", "--from", "s3://b", "--prefix", ""))
	}
	one, two := []*snapshotdv1.Cluster{cluster("prod")}, []*snapshotdv1.Cluster{cluster("default"), cluster("prod")}
	for name, tc := range map[string]struct {
		clusters []*snapshotdv1.Cluster
		args     []string
		want     []string
	}{
		"one cluster": {one, nil, []string{"save", "list --from s3://b --cluster prod", "list --from s3://b --prefix '' --cluster prod"}},
		"one of several": {two, []string{"--cluster", "prod"},
			[]string{"save --cluster prod", "list --from s3://b --cluster prod", "list --from s3://b --prefix '' --cluster prod"}},
		"the default one of several": {two, []string{"--cluster", "default"},
			[]string{"save --cluster default", "list --from s3://b --cluster default", "list --from s3://b --prefix '' --cluster default"}},
		"another service": {one, []string{"--plaintext", "--timeout", "1m"},
			[]string{"save --addr ADDR --plaintext", "list --from s3://b --cluster prod", "list --from s3://b --prefix '' --cluster prod"}},
	} {
		env := serve(t, &fake{clusters: tc.clusters})
		args := append([]string{"status"}, tc.args...)
		if name == "another service" {
			args = append(args, "--addr", env["SNAPSHOTD_ADDR"])
		}
		r := run(t.Context(), env, args...)
		var got []string
		for line := range strings.Lines(r.stdout) {
			if command, ok := strings.CutPrefix(strings.TrimSpace(line), "snapshotd "); ok {
				got = append(got, strings.ReplaceAll(command, env["SNAPSHOTD_ADDR"], "ADDR"))
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: the commands are %q, want %q\n%s", name, got, tc.want, r.stderr)
		}
	}
}

func TestTheExitCodeOfStatusIsThatOfTheWorstCluster(t *testing.T) {
	const (
		safe      = snapshotdv1.Cluster_VERDICT_SAFE
		attention = snapshotdv1.Cluster_VERDICT_ATTENTION
		notSafe   = snapshotdv1.Cluster_VERDICT_NOT_SAFE
		unknown   = snapshotdv1.Cluster_VERDICT_UNKNOWN
	)
	for _, c := range []struct {
		verdicts []snapshotdv1.Cluster_Verdict
		want     int
	}{
		{[]snapshotdv1.Cluster_Verdict{safe, safe}, 0},
		{[]snapshotdv1.Cluster_Verdict{safe, attention}, 3},
		{[]snapshotdv1.Cluster_Verdict{unknown, attention}, 1},
		{[]snapshotdv1.Cluster_Verdict{unknown, notSafe, attention}, 4},
		{[]snapshotdv1.Cluster_Verdict{snapshotdv1.Cluster_VERDICT_UNSPECIFIED}, 1}, // of a later version
	} {
		f := &fake{}
		for _, v := range c.verdicts {
			f.clusters = append(f.clusters, judged("c", v))
		}
		if r := run(t.Context(), serve(t, f), "status"); r.code != c.want {
			t.Errorf("%v: exit code %d, want %d: %s", c.verdicts, r.code, c.want, r.stderr)
		}
	}
}

func recoveryPoints() []*snapshotdv1.RecoveryWindow_RecoveryPoint {
	return []*snapshotdv1.RecoveryWindow_RecoveryPoint{
		{Age: durationpb.New(420 * time.Millisecond)},
		{Backend: "local", Age: durationpb.New(8 * time.Second)},
		{Backend: "s3", Age: durationpb.New(3 * time.Minute), Error: "the bucket is away"},
	}
}

// Other commands exit 5 then. Of status, 5 is no verdict.
func TestTheExitCodeOfStatusIsThatOfUnknownWhenItIsRefusedByALimit(t *testing.T) {
	f := &fake{refused: snapshot.ReasonLimitReached.New("limits.calls_per_principal")}
	if r := run(t.Context(), serve(t, f), "status"); r.code != 1 || r.stderr != "error: limits.calls_per_principal\n" {
		t.Errorf("exit code %d, %s", r.code, r.stderr)
	}
}

func TestWindowShowsWhatCanBeRestoredAndWhatIsLost(t *testing.T) {
	at := func(minutes int) *timestamppb.Timestamp {
		return timestamppb.New(now.Add(time.Duration(minutes) * time.Minute))
	}
	f := &fake{window: &snapshotdv1.RecoveryWindow{
		Journaled: true, Endpoint: "http://10.0.0.1:2379", RecoveryPoints: recoveryPoints(),
		Timelines: []*snapshotdv1.RecoveryWindow_Timeline{
			{Name: "cdf818194e3a8c32-1784110000", StartTime: at(-90), Ranges: []*snapshotdv1.RecoveryWindow_Range{
				{FirstRevision: 100, LastRevision: 250, FirstTime: at(-90), LastTime: at(-40), RestorableFromRevision: 104, Base: "first"},
			}},
			{Name: "cdf818194e3a8c32-1784112000", StartTime: at(-20), Reason: "compacted: it was away",
				Ranges: []*snapshotdv1.RecoveryWindow_Range{
					{FirstRevision: 300, LastRevision: 310, FirstTime: at(-20), LastTime: at(-1), CompleteTime: at(0)},
				}},
		},
		Gaps: []*snapshotdv1.RecoveryWindow_Gap{{
			AfterRevision: 250, BeforeRevision: 300, AfterTime: at(-40), BeforeTime: at(-20), Reason: "compacted: it was away",
			Timeline: "cdf818194e3a8c32-1784112000",
		}},
		Snapshots: []*snapshotdv1.RecoveryWindow_Snapshot{{Name: "first", OldestRevision: 1, Revision: 104, CreateTime: at(-89), JournalProof: &snapshotdv1.Verification{
			State: snapshotdv1.Verification_STATE_FAILED, Error: "HashKV differs", Time: at(-80),
		}}},
		LagRevisions: proto.Int64(12),
		Drill: &snapshotdv1.RecoveryWindow_Drill{
			Revision: 200, Timeline: "cdf818194e3a8c32-1784110000", Base: "first",
			Verdict: &snapshotdv1.Verification{State: snapshotdv1.Verification_STATE_FAILED, Error: "segment 191-210 is torn", Time: at(-30)},
		},
		Kept:      durationpb.New(7 * 24 * time.Hour),
		Estimates: []string{"Times are those of arrival."}, Unread: []string{"backend old: it does not answer"},
	}}
	env := serve(t, f)
	for name, args := range map[string][]string{"window.txt": nil, "window-wide.txt": {"-o", "wide"}, "window.json": {"-o", "json"}} {
		r := run(t.Context(), env, append([]string{"window"}, args...)...)
		if r.code != 3 || r.stderr != "error: a part of the journal, or of the catalog, could not be read: it may hold more than is shown\n" {
			t.Errorf("%s: exit code %d, %q", name, r.code, r.stderr)
		}
		golden(t, name, r.stdout)
	}
	// While etcd is not followed, it goes on, and nobody counts.
	f.window.Endpoint, f.window.LagRevisions = "", nil
	if r := run(t.Context(), env, "window"); !strings.Contains(r.stdout, "Lag: not known, etcd is not followed now") {
		t.Errorf("while etcd is not followed, it says\n%s", r.stdout)
	}
	f.window.Drill.Verdict = &snapshotdv1.Verification{State: snapshotdv1.Verification_STATE_PASSED, Time: at(-1)}
	f.window.RecoveryPoints = nil // another replica follows
	if r := run(t.Context(), env, "window"); !strings.Contains(r.stdout, "Drilled: revision 200 of cdf818194e3a8c32-1784110000 was restored, from first") ||
		strings.Contains(r.stdout, "Lag") {
		t.Errorf("after a drill that was passed, on another replica: %s", r.stdout)
	}
	for _, tc := range []struct {
		change       func()
		code         int
		says, errors string
	}{
		{func() { f.window.Unread = nil }, 0, "no snapshot (300)", ""},
		{func() { f.window.Timelines = nil }, 0, "The journal holds nothing yet.", ""},
		{func() { f.window.Unread = []string{"s3 is away"} }, 1, "Nothing of the journal could be read", "error: nothing of the journal could be read"},
		{func() { f.window.Journaled = false }, 3, "The cluster has no journal", "error: a record of the catalog could not be read"},
	} {
		tc.change()
		r := run(t.Context(), env, "window")
		if r.code != tc.code || !strings.Contains(r.stdout, tc.says) || !strings.HasPrefix(r.stderr, tc.errors) || tc.errors == "" && r.stderr != "" {
			t.Errorf("exit code %d, %s, %q", r.code, r.stdout, r.stderr)
		}
	}
	f.window = &snapshotdv1.RecoveryWindow{}
	if r := run(t.Context(), env, "window"); r.code != 0 || !strings.Contains(r.stdout, "no journal") {
		t.Errorf("without a journal: exit code %d, %s", r.code, r.stdout)
	}
}

// What is said of a fleet is said of all of it: the last of many clusters is the one that is not safe.
func TestStatusReadsAllPagesOfTheClusters(t *testing.T) {
	f := &fake{}
	for i := range 450 {
		f.clusters = append(f.clusters, judged(fmt.Sprintf("c%d", i), snapshotdv1.Cluster_VERDICT_SAFE))
	}
	f.clusters[449].Verdict = snapshotdv1.Cluster_VERDICT_NOT_SAFE
	r := run(t.Context(), serve(t, f), "status")
	if r.code != 4 || r.stderr != "error: 1 of 450 clusters not safe\n" || strings.Count(r.stdout, "SAFE") != 450 {
		t.Errorf("exit code %d, stderr %q, stdout:\n%s", r.code, r.stderr, r.stdout)
	}
	if r := run(t.Context(), serve(t, f), "__complete", "list", "--cluster", ""); strings.Count(r.stdout, "\nc") < 449 {
		t.Errorf("offered are:\n%s", r.stdout)
	}
}
