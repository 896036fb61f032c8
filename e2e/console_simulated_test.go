//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/snapshotd/snapshotd/internal/testenv"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/compress"
	"github.com/snapshotd/snapshotd/server/console"
)

// simulated is a service with clusters and snapshots that nobody could save within a test. The page is the real one.
type simulated struct {
	clusters  []*snapshotdv1.Cluster
	snapshots map[string][]*snapshotdv1.Snapshot // by cluster, newest first
	role      snapshotdv1.Role
	grpc      string // address; empty for the default
	tls       bool
	clientCA  bool // it asks for client certificates
	token     bool // it asks for tokens
	window    *snapshotdv1.RecoveryWindow
	events    chan *snapshotdv1.WatchResponse // for the page that follows them
	ahead     atomic.Int64                    // nanoseconds that its clock is ahead

	mu     sync.Mutex
	others map[string]http.HandlerFunc // by method and path, in the place of the usual answers
}

// answers makes it answer to a method and path in another way; nil is the usual one again.
func (s *simulated) answers(call string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.others[call] = h
}

func (s *simulated) other(r *http.Request) http.HandlerFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.others[r.Method+" "+r.URL.Path]
}

// tell sends an event to the page that follows them.
func (s *simulated) tell(t *testing.T, ev *snapshotdv1.WatchResponse) {
	t.Helper()
	select {
	case s.events <- ev:
	case <-time.After(waitTimeout):
		t.Fatalf("no page follows the events: %v", ev)
	}
}

// refuses answers with an error of the API.
func refuses(t *testing.T, code codes.Code, message string, details ...protoadapt.MessageV1) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		st, err := status.New(code, message).WithDetails(details...)
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		writeProto(t, w, st.Proto())
	}
}

func (s *simulated) serve(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", console.ServeIndex)
	mux.HandleFunc("GET "+console.Root, console.ServePart)
	mux.HandleFunc("GET "+console.Root+"service", func(w http.ResponseWriter, _ *http.Request) {
		console.Service{Version: "v1.0.0", GRPC: cmp.Or(s.grpc, "127.0.0.1:7379"), TLS: s.tls, ClientCA: s.clientCA,
			Token:    s.token,
			TraceURL: "https://jaeger.example/trace/{trace_id}"}.Serve(w)
	})
	mux.HandleFunc("GET /v1/clusters", s.fleet(t))
	mux.HandleFunc("GET /v1/whoami", func(w http.ResponseWriter, _ *http.Request) {
		who := &snapshotdv1.WhoAmIResponse{Kind: "certificate", Name: "CN=alice"}
		for _, c := range s.clusters {
			who.Clusters = append(who.Clusters, &snapshotdv1.ClusterRole{Cluster: c.GetName(), Role: s.role})
		}
		writeProto(t, w, who)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		writeLine(t, w, &snapshotdv1.WatchResponse{Type: snapshotdv1.WatchResponse_TYPE_POSITION})
		for {
			select {
			case ev := <-s.events:
				writeLine(t, w, ev)
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("GET /v1/clusters/{cluster}/snapshots", s.list(t))
	mux.HandleFunc("GET /v1/clusters/{cluster}/recoveryWindow", func(w http.ResponseWriter, _ *http.Request) {
		writeProto(t, w, &snapshotdv1.GetRecoveryWindowResponse{Window: s.window, Time: timestamppb.Now()})
	})
	mux.HandleFunc("GET /v1/clusters/{cluster}/snapshots/{name}", func(w http.ResponseWriter, r *http.Request) {
		all := s.snapshots[r.PathValue("cluster")]
		i := slices.IndexFunc(all, func(sn *snapshotdv1.Snapshot) bool { return sn.GetName() == r.PathValue("name") })
		writeProto(t, w, &snapshotdv1.GetResponse{Snapshot: all[i]})
	})
	srv := httptest.NewServer(compress.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := s.other(r); h != nil {
			h(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

// pageOf returns the page of so many that is asked for, and the token of the next one: the number that it begins with.
func pageOf(r *http.Request, all int) (from, to int, token string) {
	from, _ = strconv.Atoi(r.FormValue("pageToken"))
	size, _ := strconv.Atoi(r.FormValue("pageSize"))
	if to = min(all, from+size); to < all {
		token = strconv.Itoa(to)
	}
	return from, to, token
}

// fleet serves pages of clusters.
func (s *simulated) fleet(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, to, token := pageOf(r, len(s.clusters))
		now := timestamppb.New(time.Now().Add(time.Duration(s.ahead.Load())))
		writeProto(t, w, &snapshotdv1.ListClustersResponse{Clusters: s.clusters[from:to], NextPageToken: token, Time: now})
	}
}

// list serves pages of snapshots.
func (s *simulated) list(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		all := s.snapshots[r.PathValue("cluster")]
		from, to, token := pageOf(r, len(all))
		writeProto(t, w, &snapshotdv1.ListResponse{Snapshots: all[from:to], NextPageToken: token})
	}
}

func writeProto(t *testing.T, w http.ResponseWriter, m proto.Message) {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		t.Error(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the page may be gone
}

// writeLine writes a message of a stream, and sends it.
func writeLine(t *testing.T, w http.ResponseWriter, m proto.Message) {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		t.Error(err)
	}
	_, _ = fmt.Fprintf(w, "{\"result\":%s}\n", b) // the page may be gone
	_ = http.NewResponseController(w).Flush()
}

// simulatedSnapshot is the i-th snapshot of a cluster before now; one was taken every hour.
func simulatedSnapshot(cluster string, i int) *snapshotdv1.Snapshot {
	at := time.Now().Add(-time.Duration(i)*time.Hour - 10*time.Minute)
	if i > 30 {
		at = at.Add(-9 * time.Hour) // the schedule stood still
	}
	location := func(backend, url string, kind snapshotdv1.Location_BackendKind) *snapshotdv1.Location {
		return &snapshotdv1.Location{
			Backend: backend, Kind: kind, Uri: fmt.Sprintf("%s%s/etcd-snapshot-node-1-%d.db.zst", url, cluster, at.Unix()), SizeBytes: int64(20e6 + 1e4*i),
			State: snapshotdv1.Snapshot_STATE_READY, UpdateTime: timestamppb.New(at),
		}
	}
	s := &snapshotdv1.Snapshot{
		Name: fmt.Sprintf("etcd-snapshot-node-1-%d", at.Unix()), Cluster: cluster, State: snapshotdv1.Snapshot_STATE_READY,
		Trigger: snapshotdv1.Snapshot_TRIGGER_SCHEDULED, Schedule: "hourly", CreateTime: timestamppb.New(at),
		Duration: durationpb.New(time.Duration(4000+i*37%1500) * time.Millisecond), Node: "node-1", EtcdVersion: "3.7.3", StorageVersion: "3.7.0",
		EtcdClusterId: "cdf818194e3a8c32", EtcdMemberId: "8e9e05c52164694d", Revision: int64(9e6 - 1000*i), OldestRevision: int64(9e6 - 1000*i - 300),
		TotalKeys: 41000, DbSizeBytes: int64(90e6 - 2e4*float64(i%2000)), Sha256: strings.Repeat("ab", 32), Hash: 0xfedc,
		Compression: snapshotdv1.Snapshot_COMPRESSION_ZSTD, StoredSizeBytes: int64(20e6 + 1e4*i), StoredSha256: strings.Repeat("cd", 32),
		Labels: map[string]string{"team": "ops"}, Etag: strconv.Itoa(i), TraceId: strings.Repeat("1f", 16),
		Locations: []*snapshotdv1.Location{
			location("local", "file:///var/backups/etcd/", snapshotdv1.Location_BACKEND_KIND_LOCAL), location("s3", "s3://backups/etcd/", snapshotdv1.Location_BACKEND_KIND_S3),
		},
	}
	switch {
	case i%29 == 5:
		s.State, s.Error = snapshotdv1.Snapshot_STATE_PARTIAL, "put it into s3: access denied"
		s.Locations[1].State, s.Locations[1].Error = snapshotdv1.Snapshot_STATE_FAILED, "access denied"
	case i == 12:
		s.State, s.Error = snapshotdv1.Snapshot_STATE_FAILED, "read the snapshot: etcd does not answer"
		s.Locations[0].State, s.Locations[1].State = snapshotdv1.Snapshot_STATE_FAILED, snapshotdv1.Snapshot_STATE_FAILED
	case i%24 == 3:
		s.Proof = &snapshotdv1.Verification{Level: snapshotdv1.Verification_LEVEL_DRILL, State: snapshotdv1.Verification_STATE_PASSED,
			Time: timestamppb.New(at.Add(time.Hour)), Duration: durationpb.New(9 * time.Second), Backends: []string{"local"}, HashKv: 0xabc123}
		s.Verification = &snapshotdv1.Verification{Level: snapshotdv1.Verification_LEVEL_CHECKSUM, State: snapshotdv1.Verification_STATE_PASSED,
			Time: timestamppb.New(at.Add(2 * time.Hour)), Duration: durationpb.New(2 * time.Second), Backends: []string{"local", "s3"}}
		s.EarlierVerifications = []*snapshotdv1.Verification{s.Proof, {Level: snapshotdv1.Verification_LEVEL_CHECKSUM,
			State: snapshotdv1.Verification_STATE_FAILED, Error: "the copy on s3 has 1,024 bytes, not 20,030,000",
			Time: timestamppb.New(at.Add(time.Minute)), Duration: durationpb.New(time.Second), Backends: []string{"s3"}}}
	case i == 7:
		s.Pinned, s.Labels["before"] = true, "upgrade-1.34"
	}
	return s
}

// simulate returns a service with so many clusters, the first of which has so many snapshots.
func simulate(clusters, snapshots int) *simulated {
	s := &simulated{
		snapshots: map[string][]*snapshotdv1.Snapshot{}, role: snapshotdv1.Role_ROLE_ADMIN,
		events: make(chan *snapshotdv1.WatchResponse), others: map[string]http.HandlerFunc{},
	}
	for i := range clusters {
		name := fmt.Sprintf("prod-%02d", i)
		n := 40
		if i == 0 {
			n = snapshots
		}
		for j := range n {
			s.snapshots[name] = append(s.snapshots[name], simulatedSnapshot(name, j))
		}
		s.clusters = append(s.clusters, simulatedCluster(name, i, s.snapshots[name]))
	}
	return s
}

func simulatedCluster(name string, i int, all []*snapshotdv1.Snapshot) *snapshotdv1.Cluster {
	next := timestamppb.New(time.Now().Add(50 * time.Minute))
	c := &snapshotdv1.Cluster{
		Name: name, Prefix: name + "/", Verdict: snapshotdv1.Cluster_VERDICT_SAFE, NewestReady: all[0], LastSave: all[0], Proven: all[3],
		ProvenTime: all[3].GetProof().GetTime(), Leader: "node-1", Examined: int64(min(len(all), 500)), Complete: len(all) <= 500,
		Backends: []*snapshotdv1.Cluster_Backend{
			{Name: "local", Uri: "file:///var/backups/etcd/", Url: "file:///var/backups/etcd", Snapshots: int64(len(all)), SizeBytes: 8e9, FreeBytes: 210e9,
				Newest: all[0].GetName(), LastState: snapshotdv1.Snapshot_STATE_READY},
			{Name: "s3", Uri: "s3://backups/etcd/", Url: "s3://backups?prefix=etcd/&region=eu-central-1", Snapshots: int64(len(all) - 2), SizeBytes: 78e8,
				FreeBytes: -1, Newest: all[0].GetName(), LastState: snapshotdv1.Snapshot_STATE_READY},
		},
		Schedules: []*snapshotdv1.Cluster_Schedule{{
			Name: "hourly", Cron: "0 * * * *", NextTime: next, LastTime: all[0].GetCreateTime(), LastSnapshot: all[0].GetName(),
			LastState: snapshotdv1.Snapshot_STATE_READY,
			Missed: []*snapshotdv1.Cluster_MissedRuns{{ // as simulatedSnapshot has it
				StartTime: timestamppb.New(all[31].GetCreateTime().AsTime().Add(time.Hour)), EndTime: all[30].GetCreateTime(), Runs: 9,
			}},
		}},
		Retention: []*snapshotdv1.Cluster_Retention{
			{Backend: "local", Rules: true, RemovesNext: 1, FreesNextBytes: 21e6, NextTime: next, Names: []string{all[len(all)-1].GetName()}},
			{Backend: "s3"},
		},
	}
	switch i {
	case 1:
		c.Verdict = snapshotdv1.Cluster_VERDICT_NOT_SAFE
		c.Findings = []*snapshotdv1.Cluster_Finding{{Verdict: c.GetVerdict(), Text: "The last save failed: read the snapshot: etcd does not answer",
			Command: []string{"save"}}}
		endedBadly(c, all, snapshotdv1.Snapshot_STATE_FAILED, "read the snapshot: ", "etcd does not answer",
			c.GetBackends()...)
	case 2:
		c.Verdict = snapshotdv1.Cluster_VERDICT_ATTENTION
		c.Findings = []*snapshotdv1.Cluster_Finding{{Verdict: c.GetVerdict(), Text: "The last save did not reach every backend: put it into s3: access denied",
			Command: []string{"reconcile", "--repair"}}}
		endedBadly(c, all, snapshotdv1.Snapshot_STATE_PARTIAL, "put it into s3: ", "access denied", c.GetBackends()[1])
		c.Backends[1].Waiting, c.UploadsWaiting = 3, 3
	case 3:
		c.Verdict = snapshotdv1.Cluster_VERDICT_UNKNOWN
		c.Findings = []*snapshotdv1.Cluster_Finding{{Verdict: c.GetVerdict(), Text: "The catalog cannot be read, so nothing is known here: etcd has no leader",
			Command: []string{"list", "--from", "file:///var/backups/etcd"}}}
		c.NewestReady, c.LastSave, c.Proven, c.ProvenTime, c.Retention, c.Schedules[0].Missed = nil, nil, nil, nil, nil, nil
		for _, b := range c.Backends {
			b.Snapshots, b.SizeBytes, b.Newest, b.LastState = -1, -1, "", snapshotdv1.Snapshot_STATE_UNSPECIFIED
		}
	}
	return c
}

// endedBadly lets the last save of a cluster have ended in a state, and have failed on backends.
func endedBadly(
	c *snapshotdv1.Cluster, all []*snapshotdv1.Snapshot, state snapshotdv1.Snapshot_State, doing, why string,
	on ...*snapshotdv1.Cluster_Backend,
) {
	last := all[0]
	last.State, last.Error, c.Schedules[0].LastState = state, doing+why, state
	for _, b := range on {
		b.LastState, b.LastError, b.Newest = snapshotdv1.Snapshot_STATE_FAILED, why, all[1].GetName()
		for _, l := range last.GetLocations() {
			if l.GetBackend() == b.GetName() {
				l.State, l.Error = snapshotdv1.Snapshot_STATE_FAILED, why
			}
		}
	}
	c.NewestReady = all[1]
}

// TestManySnapshotsInABrowser: only the rows that can be seen are made, also at the end of a long list, and the search
// finds one of all.
func TestManySnapshotsInABrowser(t *testing.T) {
	chromium(t)
	const n = 13000
	s := simulate(1, n)
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("all of them", "#count", "13000 snapshots, newest first")
	last := s.snapshots["prod-00"][n-1].GetName()
	var rows int
	b.eval("document.querySelector('.scroller').scrollTop = 1e9", nil)
	b.reads("the last one", "#rows", last)
	if b.eval("document.querySelectorAll('#rows tr').length", &rows); rows > 120 {
		t.Errorf("there are %d rows for a list of which few can be seen", rows)
	}
	b.fill("#q", last+" team=ops hourly")
	b.reads("the one that was searched for", "#count", "1 of 13000 snapshots")
	b.reads("it", "#rows", last)
	b.fill("#q", "")
	b.fill("#state", "STATE_FAILED")
	b.reads("the failed one", "#count", "1 of 13000 snapshots")
	b.reads("the address", "#link", "as of")
	var hash string
	if b.eval("location.hash", &hash); hash != "#/clusters/prod-00?state=STATE_FAILED" {
		t.Errorf("the address is %q", hash)
	}
	other := browse(t, s.serve(t)+"/"+hash, "")
	other.reads("the same view", "#count", "1 of 13000 snapshots")
	if len(b.problems)+len(other.problems) > 0 {
		t.Errorf("the browsers complain: %q", slices.Concat(b.problems, other.problems))
	}
}

// TestAProofDoesNotHideAFailedVerificationInABrowser: a copy was damaged after the drill, and the row says what the
// alert says. Once it has passed again, the row has the proof.
func TestAProofDoesNotHideAFailedVerificationInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	proven := s.snapshots["prod-00"][3]
	last := proven.GetVerification()
	last.State, last.Error = snapshotdv1.Verification_STATE_FAILED, "the copy on s3 has other bytes"
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("all of them", "#count", "40 snapshots, newest first")
	b.fill("#q", proven.GetName())
	b.reads("it alone", "#count", "1 of 40 snapshots")
	if text := b.text("#rows"); !strings.Contains(text, "FAILED CHECKSUM") || strings.Contains(text, "PASSED") {
		t.Errorf("the row of a snapshot whose last verification failed is %q", text)
	}
	last.State, last.Error = snapshotdv1.Verification_STATE_PASSED, ""
	proven.Etag = "passed"
	b.eval("location.reload()", nil)
	b.reads("the proof", "#rows", "PASSED DRILL")
}

// TestThePointerReadsTheChartsInABrowser: where it is, the caption has the values of that snapshot.
func TestThePointerReadsTheChartsInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	b := browse(t, s.serve(t)+"/#/clusters/prod-00", "")
	b.reads("all of them", "#count", "40 snapshots, newest first")
	point := func(figure int, kind string, share float64) (caption string) {
		t.Helper()
		b.eval(fmt.Sprintf(`(() => { const f = document.querySelectorAll('figure')[%d], s = f.querySelector('svg'), r = s.getBoundingClientRect();
			s.dispatchEvent(new PointerEvent(%q, { clientX: r.left + r.width * %g, clientY: r.top + 9 }));
			return f.querySelector('figcaption .at').textContent })()`, figure, kind, share), &caption)
		return caption
	}
	all := s.snapshots["prod-00"]
	newest, whole := all[0], all[slices.IndexFunc(all, func(s *snapshotdv1.Snapshot) bool {
		return s.GetState() == snapshotdv1.Snapshot_STATE_READY || s.GetState() == snapshotdv1.Snapshot_STATE_PARTIAL
	})]
	if got := point(0, "pointermove", 0.97); !strings.Contains(got, newest.GetName()) {
		t.Errorf("the end of the timeline is %q, the newest snapshot is %s", got, newest.GetName())
	}
	if got := point(1, "pointermove", 0.999); !strings.Contains(got, "database ") || !strings.Contains(got, "stored ") ||
		!strings.Contains(got, whole.GetCreateTime().AsTime().Format("2006-01-02 15:04")) {
		t.Errorf("the end of the sizes is %q", got)
	}
	if got := point(1, "pointerleave", 0.97); got != "" {
		t.Errorf("without the pointer there is %q", got)
	}
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}

// TestCommandsOverASocketInABrowser: the commands lead to the socket, which needs no TLS.
func TestCommandsOverASocketInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(2, 40)
	s.grpc = "unix:///run/snapshotd/snapshotd.sock"
	b := browse(t, s.serve(t)+"/#/clusters/prod-01", "")
	b.reads("what to do", ".findings", "snapshotd save --cluster prod-01 --addr unix:///run/snapshotd/snapshotd.sock")
	var commands string
	if b.eval("document.body.innerText", &commands); strings.Contains(commands, "--tls") || strings.Contains(commands, "--plaintext") {
		t.Errorf("a command over the socket has flags of TLS: %s", commands)
	}
	if len(b.problems) > 0 {
		t.Errorf("the browser complains: %q", b.problems)
	}
}

// TestManyClustersInABrowser: the worst come first, one line each, the search narrows them, and the address has what is
// open.
func TestManyClustersInABrowser(t *testing.T) {
	chromium(t)
	b := browse(t, simulate(50, 40).serve(t)+"/", "")
	b.reads("all of them", "#fleet", "50 clusters", "1 NOT SAFE", "1 UNKNOWN", "1 ATTENTION", "47 SAFE")
	var order []string
	b.eval("[...document.querySelectorAll('#clusters .name')].slice(0, 4).map(e => e.innerText)", &order)
	if want := []string{"prod-01", "prod-03", "prod-02", "prod-00"}; !slices.Equal(order, want) {
		t.Errorf("the first are %q, want %q", order, want)
	}
	b.screen(1920, 1400, "light")
	var seen int
	b.eval("[...document.querySelectorAll('#clusters summary')].filter(e => e.getBoundingClientRect().bottom <= innerHeight).length", &seen)
	if seen < 50 {
		t.Errorf("%d of 50 clusters are on the screen", seen)
	}
	b.fill("#search", "does not answer")
	b.reads("the one with that reason", "#found", "1 cluster of 50")
	b.click("#clusters summary", "The last save failed")
	b.reads("why", ".findings", "The last save failed", "snapshotd save --cluster prod-01")
	var hash string
	b.eval("location.hash", &hash)
	other := browse(t, simulate(50, 40).serve(t)+"/"+hash, "")
	other.reads("the same view", ".findings", "The last save failed")
	other.reads("the same view", "#found", "1 cluster of 50")
	fleet := browse(t, simulate(450, 40).serve(t)+"/", "")
	fleet.reads("all of several pages", "#fleet", "450 clusters", "1 NOT SAFE", "447 SAFE")
}

// TestNoFactOfALineIsCutInABrowser: how a save has ended is needed most where it has not ended well.
func TestNoFactOfALineIsCutInABrowser(t *testing.T) {
	chromium(t)
	b := browse(t, simulate(6, 40).serve(t)+"/", "")
	b.reads("the last saves", "#clusters", "FAILED", "PARTIAL", "READY")
	for _, on := range append(slices.Clone(screens), screen{"middle", "light", 1000}) {
		b.screen(on.width, 900, on.scheme)
		var cut []string
		b.eval(`[...document.querySelectorAll('#clusters .fact')]
			.filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth).map(e => e.textContent)`, &cut)
		if len(cut) > 0 {
			t.Errorf("%s: there is no room for %q", on.name, cut)
		}
	}
}

// TestTheConsoleIsAccessible: axe finds nothing in any view, in either colour scheme, nor on a phone; and nothing is
// wider than the screen. With SNAPSHOTD_PICTURES=DIR it writes a picture of each, and that of the docs.
func TestTheConsoleIsAccessible(t *testing.T) {
	chromium(t)
	s := simulate(6, 400)
	s.clusters[5] = &snapshotdv1.Cluster{ // nothing was ever saved
		Name: "prod-05", Verdict: snapshotdv1.Cluster_VERDICT_NOT_SAFE, Complete: true, Findings: []*snapshotdv1.Cluster_Finding{
			{Verdict: snapshotdv1.Cluster_VERDICT_NOT_SAFE, Text: "There is no snapshot that could be restored.", Command: []string{"save"}},
		},
		Backends: []*snapshotdv1.Cluster_Backend{{Name: "s3", Url: "s3://backups", Snapshots: 0, SizeBytes: 0, FreeBytes: -1}},
	}
	s.snapshots["prod-05"] = nil
	url := s.serve(t)
	b := browse(t, "about:blank", "")
	proven := "#/clusters/prod-00/snapshots/" + s.snapshots["prod-00"][3].GetName()
	for name, view := range map[string]struct{ hash, ready, dialog string }{
		"overview": {"#/?open=prod-01", ".findings", ""}, "cluster": {"#/clusters/prod-02", "#rows a", ""},
		"many":    {"#/clusters/prod-00?range=30d&open=commands", "#rows a", ""},
		"unknown": {"#/clusters/prod-03", "#rows a", ""}, "empty": {"#/clusters/prod-05", ".findings", ""},
		"absent":   {"#/clusters/none", "#main:not([hidden]) h2", ""},
		"snapshot": {proven, ".labels", ""}, "dialog": {proven, ".actions button", "Delete"},
		"verify": {proven, ".actions button", "Verify"}, "labels": {proven, ".actions button", "Labels"},
		"download": {proven, ".actions button", "Download"}, "pin": {proven, ".actions button", "Pin"},
		"save": {"#/clusters/prod-00", ".actions button", "Save now"}, "reconcile": {"#/clusters/prod-00", ".actions button", "Reconcile"},
		"prune": {"#/clusters/prod-00", ".actions button", "Prune"},
	} {
		b.goes("about:blank", "body") // the next address may differ in its last part alone
		b.goes(url+"/"+view.hash, view.ready)
		if view.dialog != "" {
			b.click(view.ready, view.dialog)
		}
		for _, screen := range screens {
			b.accessible(name, screen)
			if dir := os.Getenv("SNAPSHOTD_PICTURES"); dir != "" {
				b.picture(filepath.Join(dir, "console-"+name+"-"+screen.name+".png"))
				if name == "cluster" && screen == screens[0] {
					b.picture(filepath.Join(testenv.Root(), "docs", "console.png"))
				}
			}
		}
	}
}

// TestAViewerChangesNothingInABrowser: what the service would refuse is not offered.
func TestAViewerChangesNothingInABrowser(t *testing.T) {
	chromium(t)
	s := simulate(1, 40)
	s.role = snapshotdv1.Role_ROLE_VIEWER
	b := browse(t, s.serve(t)+"/#/clusters/prod-00/snapshots/"+s.snapshots["prod-00"][7].GetName(), "")
	b.reads("what it is", "#view", "PINNED", "before=upgrade-1.34")
	b.reads("who looks", "#caller", "CN=alice: viewer")
	var buttons int
	if b.eval("document.querySelectorAll('#view .actions button').length", &buttons); buttons != 0 {
		t.Errorf("there are %d buttons", buttons)
	}
	s.role = snapshotdv1.Role_ROLE_OPERATOR // a pin is taken away by an admin alone
	b.eval("location.reload()", nil)
	b.reads("what an operator may do", "#view .actions", "Verify…", "Labels…")
	if text := b.text("#view .actions"); strings.Contains(text, "Unpin") || strings.Contains(text, "Delete") {
		t.Errorf("an operator is offered %q", text)
	}
}
