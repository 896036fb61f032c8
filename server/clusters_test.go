package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// facts are what is known of a cluster beside its snapshots.
type facts interface {
	Configured() status.Known
	status.Replicas
	server.Journal
}

// known returns the facts of a cluster. One to which its test gives none has a leader, and no schedule.
func (c *fakeCluster) known() facts {
	if c.facts == nil {
		return bare{fakeFacts{leader: "node-1"}, c}
	}
	return c.facts
}

func (c *fakeCluster) Configured() status.Known { return c.known().Configured() }

// bare are the facts of a cluster that has backends alone.
type bare struct {
	fakeFacts
	cluster *fakeCluster
}

// Leader has no answer of a catalog that is silent: that does not list snapshots, either.
func (b bare) Leader(ctx context.Context) (string, error) {
	if b.cluster.silent {
		_, err := b.cluster.list(ctx, snapshot.Query{})
		return "", err
	}
	return b.leader, nil
}

func (b bare) Configured() (known status.Known) {
	known.Store.Prefix = b.cluster.name + "/"
	for _, name := range b.cluster.backends {
		known.Places = append(known.Places, status.Place{Name: name, Free: -1})
	}
	return known
}

// fakeFacts are the facts of a cluster that is due every hour.
type fakeFacts struct {
	last   time.Time
	leader string
	window status.Window
	err    error
	saving *status.Moving // of another replica

	removals []status.JournalRemoval
	journal  *status.Journal
	notes    snapshot.JournalNotes
	scrub    *status.Scrub
	scrubbed snapshot.ScrubNote
	copies   func(cluster.ReconcileRequest) []status.JournalCopies

	reconciled snapshot.ReconcileNote
}

func (f fakeFacts) Configured() status.Known {
	return status.Known{
		Store: status.Store{Prefix: "p/", Encrypted: true, Decrypts: true, Signed: true},
		Places: []status.Place{{
			Name: "s3", Kind: snapshot.BackendS3, URI: "s3://backups/", Free: -1,
			URL: "s3://backups?endpoint=https://s3.example",
		}},
		Schedules: []status.Schedule{{
			Name: "hourly", Cron: "@hourly",
			Next: func(after time.Time) time.Time { return after.Truncate(time.Hour).Add(time.Hour) },
		}},
		Journal: f.journal, Scrub: f.scrub,
		Moving: &status.Moving{Name: "b", Read: 7, Total: 10, Written: map[string]int64{"s3": 3}},
	}
}

func (f fakeFacts) Window(context.Context) (status.Window, error) { return f.window, f.err }

func (f fakeFacts) JournalRemovals(context.Context) ([]status.JournalRemoval, error) {
	return f.removals, f.err
}

func (f fakeFacts) JournalNotes(context.Context) (snapshot.JournalNotes, error) {
	return f.notes, f.err
}

func (f fakeFacts) Scrubbed(context.Context) (snapshot.ScrubNote, error) { return f.scrubbed, f.err }

func (f fakeFacts) Reconciled(context.Context) (snapshot.ReconcileNote, error) {
	return f.reconciled, f.err
}

func (f fakeFacts) Record(context.Context, string) (*snapshot.Record, error) { return nil, f.err }

func (f fakeFacts) ReconcileJournal(_ context.Context, req cluster.ReconcileRequest) []status.JournalCopies {
	if f.copies == nil {
		return nil
	}
	return f.copies(req)
}

func (f fakeFacts) LastDue(context.Context, string) (time.Time, error) { return f.last, f.err }
func (f fakeFacts) Leader(context.Context) (string, error)             { return f.leader, f.err }
func (f fakeFacts) Saving(context.Context) (*status.Moving, error)     { return f.saving, f.err }

// holding is a cluster of one page of records.
func holding(name string, err error, records ...*snapshot.Record) *fakeCluster {
	return &fakeCluster{name: name, backends: []string{"s3"},
		list: func(context.Context, snapshot.Query) (snapshot.Page, error) {
			return snapshot.Page{Records: records}, err
		}}
}

// onS3 is a snapshot that was just saved and proven.
func onS3(name string) *snapshot.Record {
	at := time.Now().Add(-time.Minute)
	s := snapshot.WithStatus(snapshot.Snapshot{
		Name: name, Cluster: "prod", Trigger: snapshot.TriggerScheduled, Schedule: "hourly", CreateTime: at,
		Revision: 7, TraceID: "ab",
	}, snapshot.Status{State: snapshot.StateReady, Locations: []snapshot.Location{
		{Backend: "s3", Kind: snapshot.BackendS3, State: snapshot.StateReady, Size: 100, UpdateTime: at},
	}})
	s.Proof = &snapshot.Verification{Level: snapshot.LevelDrill, Passed: true, Time: at}
	return snapshot.WithBookkeeping(s, snapshot.Bookkeeping{})
}

// threeClusters are one that is safe, one whose schedule has stopped, and one whose catalog is down.
func threeClusters() []*fakeCluster {
	hour := time.Now().Truncate(time.Hour)
	none := errors.New("etcd has no leader")
	prod, dead, lost := holding("prod", nil, onS3("a")), holding("dead", nil, onS3("a")), holding("lost", none)
	prod.facts = fakeFacts{last: hour, leader: "node-1"}
	dead.facts = fakeFacts{last: hour.Add(-5 * time.Hour), leader: "node-1"}
	lost.facts = fakeFacts{err: none}
	return []*fakeCluster{prod, dead, lost}
}

func runClusters(t *testing.T) (*running, snapshotdv1.ClusterServiceClient) {
	t.Helper()
	r := run(t, server.Config{}, threeClusters()...)
	return r, snapshotdv1.NewClusterServiceClient(r.dial(t))
}

func TestClustersAreJudgedWithAllThatIsKnownOfThem(t *testing.T) {
	r, client := runClusters(t)
	resp, err := client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{})
	if err != nil || len(resp.GetClusters()) != 3 || !resp.GetTime().IsValid() {
		t.Fatalf("%v, %v", resp, err)
	}
	prod, dead, lost := resp.GetClusters()[0], resp.GetClusters()[1], resp.GetClusters()[2]
	if prod.GetVerdict() != snapshotdv1.Cluster_VERDICT_SAFE || prod.GetLeader() != "node-1" ||
		prod.GetNewestReady().GetTraceId() != "ab" || prod.GetProven().GetName() != "a" || !prod.GetComplete() {
		t.Errorf("prod is %v", prod)
	}
	if p := prod.GetProgress(); p.GetReadBytes() != 7 || p.GetTotalBytes() != 10 || p.GetWrittenBytes()["s3"] != 3 {
		t.Errorf("the save under way is %v", p)
	}
	if b := prod.GetBackends()[0]; b.GetUrl() != "s3://backups?endpoint=https://s3.example" ||
		b.GetUri() != "s3://backups/" ||
		b.GetSnapshots() != 1 || b.GetSizeBytes() != 100 || b.GetFreeBytes() != -1 ||
		b.GetKind() != snapshotdv1.Location_BACKEND_KIND_S3 || b.GetLastState() != snapshotdv1.Snapshot_STATE_READY {
		t.Errorf("the backend is %v", b)
	}
	if prod.GetPrefix() != "p/" || !prod.GetCanDecrypt() || !prod.GetSignaturesRequired() {
		t.Errorf("of what is stored, prod says %v", prod)
	}
	if m := dead.GetSchedules()[0].GetMissed(); len(m) != 1 || m[0].GetRuns() != 1 || !m[0].GetStartTime().IsValid() ||
		m[0].GetEndTime() != nil {
		t.Errorf("the missed runs of dead are %v", m)
	}
	if s := prod.GetSchedules()[0]; s.GetName() != "hourly" || s.GetLastSnapshot() != "a" ||
		!s.GetNextTime().IsValid() || s.GetOverdue() {
		t.Errorf("the schedule is %v", s)
	}
	if dead.GetVerdict() != snapshotdv1.Cluster_VERDICT_NOT_SAFE || !dead.GetSchedules()[0].GetOverdue() ||
		!strings.Contains(dead.GetFindings()[0].GetText(), "Schedule hourly") {
		t.Errorf("dead is %v", dead)
	}
	if do := strings.Join(lost.GetFindings()[1].GetCommand(), " "); do != "restore latest "+
		"--from s3://backups?endpoint=https://s3.example --prefix p/ --identity FILE "+
		"--signing-public-key-file PUBLIC_KEY --data-dir DIR --dry-run" {
		t.Errorf("without the catalog, it is restored with %q", do)
	}
	if lost.GetVerdict() != snapshotdv1.Cluster_VERDICT_UNKNOWN || len(lost.GetBackends()) != 1 ||
		len(lost.GetSchedules()) != 1 ||
		!strings.Contains(lost.GetFindings()[0].GetText(), "etcd has no leader") || lost.GetBackends()[0].GetUrl() == "" {
		t.Errorf("lost is %v", lost)
	}

	one, err := client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{Cluster: "dead"})
	if err != nil || one.GetCluster().GetName() != "dead" {
		t.Errorf("%v, %v", one, err)
	}
	_, err = client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{Cluster: "none"})
	checkError(t, err, codes.NotFound, snapshot.ReasonClusterNotFound)

	answer, body := r.ask(t, "GET", "/v1/clusters", "")
	var listed struct {
		Clusters []struct{ Name, Verdict string }
	}
	if err := json.Unmarshal([]byte(body), &listed); err != nil || answer.code != 200 || len(listed.Clusters) != 3 ||
		listed.Clusters[2].Verdict != "VERDICT_UNKNOWN" {
		t.Errorf("over HTTP: %d %s", answer.code, body)
	}
	if answer, body := r.ask(t, "GET", "/v1/clusters/dead", ""); answer.code != 200 ||
		!strings.Contains(body, "VERDICT_NOT_SAFE") {
		t.Errorf("over HTTP: %d %s", answer.code, body)
	}
}

// The metric has the verdict that the API gives.
func TestTheVerdictIsTheSameWithoutAllOfTheFacts(t *testing.T) {
	_, client := runClusters(t)
	resp, err := client.ListClusters(t.Context(), &snapshotdv1.ListClustersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, c := range threeClusters() {
		got := string(server.Verdict(t.Context(), c, c.known()))
		if want := resp.GetClusters()[i].GetVerdict().String(); "VERDICT_"+strings.ToUpper(got) != want {
			t.Errorf("%s is %s, want %s", c.name, got, want)
		}
		seen[got] = true
	}
	if len(seen) != 3 {
		t.Errorf("the verdicts are %v", seen)
	}
}

// idle are facts of a replica that does not save.
type idle struct{ fakeFacts }

func (f idle) Configured() status.Known {
	known := f.fakeFacts.Configured()
	known.Node, known.Moving = "node-1", nil
	return known
}

// Another replica has told how far its save is. What it has told of an earlier save is not shown of this one.
func TestTheProgressOfAnotherReplicasSaveIsShown(t *testing.T) {
	told := &status.Moving{Name: "b", Since: time.Now().Add(-time.Minute), Read: 7, Total: 10,
		Written: map[string]int64{"s3": 3}}
	saving := func(name, node string) *snapshot.Record {
		return snapshot.NewSave(snapshot.Snapshot{Name: name, Cluster: "prod", Node: node, CreateTime: time.Now()}, "",
			"owner", nil)
	}
	for what, tc := range map[string]struct {
		record *snapshot.Record
		told   *status.Moving
		shown  bool
	}{
		"it has told":                 {saving("b", "node-2"), told, true},
		"it has told nothing yet":     {saving("b", "node-2"), nil, false},
		"of an earlier save":          {saving("c", "node-2"), told, false},
		"this one has died meanwhile": {saving("b", "node-1"), told, false},
		"nothing is saved":            {onS3("a"), told, false},
	} {
		c := holding("prod", nil, tc.record)
		c.facts = idle{fakeFacts{leader: "node-2", saving: tc.told}}
		client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, c).dial(t))
		resp, err := client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{})
		if err != nil {
			t.Fatal(err)
		}
		p := resp.GetCluster().GetProgress()
		right := p.GetReadBytes() == 7 && p.GetTotalBytes() == 10 && p.GetWrittenBytes()["s3"] == 3 &&
			p.GetElapsed().AsDuration() >= time.Minute
		if (p != nil) != tc.shown || tc.shown && !right {
			t.Errorf("%s: the progress is %v", what, p)
		}
	}
}

// A cluster that is replaced meanwhile is closed when its last call has ended: it must not be asked any more.
func TestAClusterThatIsReplacedMeanwhileIsJudgedAsItIsNow(t *testing.T) {
	r := run(t, server.Config{}, ready())
	retired := served(holding("prod", errors.New("it is closed")), holding("removed", errors.New("it is closed")))
	for i := range retired {
		retired[i].Use = func(context.Context) bool {
			if err := r.SetClusters(served(holding("prod", nil, onS3("a")))); err != nil {
				t.Error(err)
			}
			return false
		}
	}
	if err := r.SetClusters(retired); err != nil {
		t.Fatal(err)
	}
	resp, err := snapshotdv1.NewClusterServiceClient(r.dial(t)).ListClusters(t.Context(),
		&snapshotdv1.ListClustersRequest{})
	if err != nil || len(resp.GetClusters()) != 1 || resp.GetClusters()[0].GetNewestReady().GetName() != "a" {
		t.Errorf("%v, %v", resp, err)
	}
}

// More snapshots than a verdict looks at are counted, not for each question anew.
func TestWhatABackendHoldsIsCountedNowAndThen(t *testing.T) {
	pages := 0
	c := &fakeCluster{name: "prod", backends: []string{"s3"},
		list: func(_ context.Context, q snapshot.Query) (snapshot.Page, error) {
			pages++
			page := snapshot.Page{Records: []*snapshot.Record{onS3("a"), onS3("b")}}
			if q.PageToken == "" {
				page.NextPageToken = "more"
			}
			return page, nil
		}}
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, c).dial(t))
	for range 3 {
		resp, err := client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if b := resp.GetCluster().GetBackends()[0]; b.GetSnapshots() != 4 || b.GetSizeBytes() != 400 ||
			resp.GetCluster().GetComplete() {
			t.Errorf("it is %v", resp.GetCluster())
		}
	}
	if pages != 3+2 {
		t.Errorf("%d pages were read, want one for each question and two to count", pages)
	}
}

// counting is facts that count how often a schedule is asked when it is due.
type counting struct {
	fakeFacts
	asked *atomic.Int64
}

func (f counting) Configured() status.Known {
	known := f.fakeFacts.Configured()
	next := known.Schedules[0].Next
	known.Schedules[0].Next = func(after time.Time) time.Time {
		f.asked.Add(1)
		return next(after)
	}
	return known
}

// An open page asks every ten seconds: the runs between all snapshots are gone through when something has changed.
func TestTheSnapshotsOfASmallClusterAreCountedWhenTheyHaveChanged(t *testing.T) {
	var records []*snapshot.Record
	for i := range 300 {
		rec := onS3(fmt.Sprintf("a%d", i))
		rec.CreateTime, rec.Version = time.Now().Add(-time.Duration(i)*time.Hour-time.Minute), int64(1000-i)
		records = append(records, rec)
	}
	c := &fakeCluster{name: "prod", backends: []string{"s3"},
		list: func(context.Context, snapshot.Query) (snapshot.Page, error) {
			return snapshot.Page{Records: records}, nil
		}}
	var asked atomic.Int64
	c.facts = counting{fakeFacts{last: time.Now().Truncate(time.Hour), leader: "node-1"}, &asked}
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, c).dial(t))
	for name, tc := range map[string]struct {
		change  func()
		counted bool
	}{
		"the same":         {func() {}, false},
		"one was changed":  {func() { records[7].Version = 2000 }, true},
		"one was deleted":  {func() { records = records[1:] }, true},
		"the last is gone": {func() { records = records[:len(records)-1] }, true},
	} {
		if _, err := client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{}); err != nil {
			t.Fatal(err)
		}
		asked.Store(0)
		tc.change()
		resp, err := client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if b := resp.GetCluster().GetBackends()[0]; b.GetSnapshots() != int64(len(records)) {
			t.Errorf("%s: there are %d snapshots, want %d", name, b.GetSnapshots(), len(records))
		}
		if n := asked.Load(); n > 300 != tc.counted {
			t.Errorf("%s: the schedule was asked %d times", name, n)
		}
	}
}

// What the catalog says beside the records is in the verdict: a scrub that another replica has made, and records that
// cannot be read.
func TestTheVerdictIsOfAllThatTheCatalogSays(t *testing.T) {
	prod, bad := holding("prod", nil, onS3("a")), holding("bad", nil)
	facts := fakeFacts{last: time.Now().Truncate(time.Hour), leader: "node-1"}
	bad.facts = facts
	bad.list = func(context.Context, snapshot.Query) (snapshot.Page, error) {
		return snapshot.Page{Records: []*snapshot.Record{onS3("a")},
			Unreadable: []error{errors.New("the record is damaged")}}, nil
	}
	facts.scrub = &status.Scrub{Cron: "@daily", Next: func(after time.Time) time.Time { return after.Add(24 * time.Hour) }}
	facts.scrubbed = snapshot.ScrubNote{Due: time.Now(), Time: time.Now(), Error: "no space is left"}
	prod.facts = facts
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, prod, bad).dial(t))
	for name, want := range map[string]string{"prod": "The last scrub failed",
		"bad": "The catalog has records that cannot be read"} {
		one, err := client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{Cluster: name})
		c := one.GetCluster()
		if err != nil || c.GetVerdict() != snapshotdv1.Cluster_VERDICT_ATTENTION ||
			!strings.Contains(c.GetFindings()[0].GetText(), want) ||
			c.GetComplete() != (name == "prod") {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	if facts.scrub.Last.Error != "" {
		t.Error("what the catalog says was put into the configuration, which all calls share")
	}
}

// Notes about a journal that cannot be read are no good news.
func TestNotesThatCannotBeReadNeedAttention(t *testing.T) {
	prod := holding("prod", nil, onS3("a"))
	prod.facts = fakeFacts{journal: &status.Journal{}, err: errors.New("the notes are away")}
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, prod).dial(t))
	one, err := client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{Cluster: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprint(one.GetCluster().GetFindings()); !strings.Contains(all,
		"not known whether the journal has gaps") {
		t.Errorf("it finds %s", all)
	}
}

func TestTheRecoveryWindowSaysWhatCanBeRestoredAndWhatIsLost(t *testing.T) {
	begin := time.Now().Add(-time.Hour).Truncate(time.Second)
	saved := func(name string, revision int64, at time.Time) *snapshot.Record {
		rec := onS3(name)
		rec.Revision, rec.OldestRevision, rec.CreateTime = revision, revision-5, at
		return rec
	}
	foreign := saved("other-etcd", 11, begin.Add(2*time.Minute))
	foreign.EtcdClusterID = "other"
	prod := holding("prod", nil,
		saved("newest", 60, begin.Add(30*time.Minute)), saved("base", 31, begin.Add(20*time.Minute)),
		saved("other-history", 15, begin.Add(21*time.Minute)), foreign, saved("first", 12, begin.Add(time.Minute)),
		saved("before", 11, begin.Add(-time.Minute)))
	followed := &status.Journal{Kept: 48 * time.Hour, Following: true, Endpoint: "http://10.0.0.1:2379", Lag: 12,
		Points: []snapshot.RecoveryPoint{
			{Age: 400 * time.Millisecond}, {Backend: "s3", Age: 7 * time.Second, Error: "it is away"},
		}}
	prod.facts = fakeFacts{journal: followed, notes: snapshot.JournalNotes{
		Breaks: []snapshot.JournalBreak{{
			After: 24, Before: 30, AfterTime: begin, BeforeTime: begin.Add(20 * time.Minute), Reason: "compacted: it was away",
		}},
		Drill: &snapshot.JournalDrill{Revision: 33, Timeline: "two", Base: "base",
			Verdict: snapshot.Verification{Passed: true, Time: begin}},
	}, window: status.Window{
		Journal: followed,
		Timelines: []status.Timeline{
			{Name: "one", Start: begin, Ranges: []status.Range{{First: 10, Last: 20, FirstTime: begin}, {First: 23, Last: 24}}},
			{Name: "two", Start: begin.Add(20 * time.Minute), Reason: "compacted: it was away",
				Ranges: []status.Range{{First: 30, Last: 70}}},
		},
		Gaps:      []status.Gap{{After: 24, Before: 30, Reason: "compacted: it was away", Timeline: "two"}},
		Estimates: []string{"times"}, Unread: []string{"another backend"},
	}}
	r := run(t, server.Config{}, prod, holding("plain", nil, saved("a", 5, begin)))
	client := snapshotdv1.NewClusterServiceClient(r.dial(t))
	resp, err := client.GetRecoveryWindow(t.Context(), &snapshotdv1.GetRecoveryWindowRequest{Cluster: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	w := resp.GetWindow()
	if !w.GetJournaled() || w.GetEndpoint() == "" || len(w.GetGaps()) != 1 || w.GetGaps()[0].GetAfterRevision() != 24 ||
		w.GetGaps()[0].GetBeforeRevision() != 26 || len(w.GetUnread()) != 1 || len(w.GetEstimates()) != 1 ||
		len(w.GetSnapshots()) != 6 {
		t.Errorf("the window is %v", w)
	}
	if p := w.GetRecoveryPoints(); len(p) != 2 || p[1].GetBackend() != "s3" ||
		p[1].GetAge().AsDuration() != 7*time.Second ||
		p[1].GetError() == "" {
		t.Errorf("the recovery points are %v", p)
	}
	if w.GetLagRevisions() != 12 || w.GetKept().AsDuration() != 48*time.Hour {
		t.Errorf("the lag is %d, and it is kept for %v", w.GetLagRevisions(), w.GetKept())
	}
	followed.Endpoint = ""
	resp, err = client.GetRecoveryWindow(t.Context(), &snapshotdv1.GetRecoveryWindowRequest{Cluster: "prod"})
	if err != nil || resp.GetWindow().LagRevisions != nil {
		t.Errorf("while etcd is not followed, the lag is %d, %v", resp.GetWindow().GetLagRevisions(), err)
	}
	followed.Endpoint = "http://10.0.0.1:2379"
	one, err := client.GetCluster(t.Context(), &snapshotdv1.GetClusterRequest{Cluster: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if at := one.GetCluster().GetRecoveryWindow(); at.GetLagRevisions() != 12 || at.GetDrill().GetRevision() != 33 ||
		at.GetDrill().GetBase() != "base" ||
		at.GetKept().AsDuration() != 48*time.Hour ||
		at.GetDrill().GetVerdict().GetState() != snapshotdv1.Verification_STATE_PASSED {
		t.Errorf("without a listing, it is %v", at)
	}
	if all := fmt.Sprint(one.GetCluster().GetFindings()); !strings.Contains(all, "revisions 25 to 29") {
		t.Errorf("the gap is not told: %s", all)
	}
	for i, want := range []struct {
		from int64
		base string
	}{{12, "first"}, {0, ""}, {31, "base"}} {
		ranges := append(w.GetTimelines()[0].GetRanges(), w.GetTimelines()[1].GetRanges()...)
		if r := ranges[i]; r.GetRestorableFromRevision() != want.from || r.GetBase() != want.base {
			t.Errorf("range %v can be restored from %d with %q, want %+v", r, r.GetRestorableFromRevision(), r.GetBase(), want)
		}
	}
	plain, err := client.GetRecoveryWindow(t.Context(), &snapshotdv1.GetRecoveryWindowRequest{Cluster: "plain"})
	if err != nil || plain.GetWindow().GetJournaled() || len(plain.GetWindow().GetSnapshots()) != 1 {
		t.Errorf("without a journal: %v, %v", plain, err)
	}
	answer, body := r.ask(t, "GET", "/v1/clusters/prod/recoveryWindow", "")
	if answer.code != 200 || !strings.Contains(body, `"restorableFromRevision":"31"`) {
		t.Errorf("over HTTP: %d %s", answer.code, body)
	}
}

// The oldest snapshots are the bases of the oldest ranges, however many newer ones there are.
func TestTheRecoveryWindowKnowsEverySnapshot(t *testing.T) {
	begin := time.Now().Add(-2000 * time.Hour).Truncate(time.Second)
	var all []*snapshot.Record // the newest first
	for i := range 1100 {
		rec := onS3(fmt.Sprintf("s%d", 1100-i))
		rec.Revision, rec.OldestRevision = int64(11000-10*i), int64(11000-10*i)
		rec.CreateTime = begin.Add(time.Duration(1100-i) * time.Hour)
		all = append(all, rec)
	}
	prod := holding("prod", nil)
	prod.list = func(_ context.Context, q snapshot.Query) (snapshot.Page, error) {
		from, _ := strconv.Atoi(q.PageToken)
		page := snapshot.Page{Records: all[from:min(from+q.PageSize, len(all))]}
		if from += q.PageSize; from < len(all) {
			page.NextPageToken = strconv.Itoa(from)
		} else {
			page.Unreadable = []error{badRecord("s0")}
		}
		return page, nil
	}
	journal := &status.Journal{}
	prod.facts = fakeFacts{journal: journal, window: status.Window{
		Journal: journal,
		Timelines: []status.Timeline{{
			Name: "one", Start: begin, Ranges: []status.Range{{First: 5, Last: 105}, {First: 200, Last: 11000}},
		}},
		Gaps: []status.Gap{{After: 105, Before: 200, Timeline: "one"}},
	}}
	client := snapshotdv1.NewClusterServiceClient(run(t, server.Config{}, prod).dial(t))
	resp, err := client.GetRecoveryWindow(t.Context(), &snapshotdv1.GetRecoveryWindowRequest{})
	if err != nil {
		t.Fatal(err)
	}
	w := resp.GetWindow()
	if r := w.GetTimelines()[0].GetRanges(); r[0].GetRestorableFromRevision() != 10 || r[0].GetBase() != "s1" ||
		r[1].GetRestorableFromRevision() != 200 || r[1].GetBase() != "s20" {
		t.Errorf("the ranges are %v", r)
	}
	if s := w.GetSnapshots(); len(s) != 500 || s[0].GetName() != "s1100" {
		t.Errorf("%d snapshots are shown", len(s))
	}
	if u := w.GetUnread(); len(u) != 1 || !strings.Contains(u[0], "/snapshotd/records/s0") {
		t.Errorf("a record that may be of a base cannot be read, and told is %q", u)
	}
}

// The journal is compared for the same backends, with the same wish, and its error is none of the snapshots.
func TestReconcileTellsOfTheJournal(t *testing.T) {
	c := reconciling("a", "local", "s3")
	var asked cluster.ReconcileRequest
	c.facts = fakeFacts{copies: func(req cluster.ReconcileRequest) []status.JournalCopies {
		asked = req
		return []status.JournalCopies{
			{Backend: "local", Segments: 3, Bytes: 400, Lacking: 5, Damaged: 6},
			{Backend: "s3", Err: snapshot.ReasonBackendUnavailable.New("list the journal")},
		}
	}}
	resp, err := run(t, server.Config{}, c).client(t).Reconcile(t.Context(),
		&snapshotdv1.ReconcileRequest{Repair: true, ValidateOnly: true, Backends: []string{"local", "s3"}})
	if err != nil {
		t.Fatal(err)
	}
	if !asked.Repair || !asked.ValidateOnly || !slices.Equal(asked.Backends, []string{"local", "s3"}) {
		t.Errorf("it was asked for %+v", asked)
	}
	for _, b := range resp.GetBackends() {
		if b.GetError() != nil {
			t.Errorf("%s: %v", b.GetBackend(), b.GetError())
		}
	}
	if got := len(resp.GetJournal()); got != 2 {
		t.Fatalf("%d entries of the journal", got)
	}
	want := &snapshotdv1.JournalReconciliation{
		Cluster: "a", Backend: "local", Segments: 3, SizeBytes: 400, LackingRevisions: 5, DamagedSegments: 6,
	}
	if got := resp.GetJournal()[0]; !proto.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := resp.GetJournal()[1]; codes.Code(got.GetError().GetCode()) != codes.Unavailable || got.GetBackend() != "s3" {
		t.Errorf("%v", got)
	}
}
