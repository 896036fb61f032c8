package cli_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/storage"
)

// journaled is an etcd with its snapshots and its journal in a directory.
type journaled struct {
	*clientv3.Client
	cluster  *cluster.Cluster
	segments *segments.Segments
	timeline segment.Timeline
	watch    clientv3.WatchChan
	header   segment.Header // of the next segment
	clock    time.Time      // each revision arrives a second after the one before
	times    map[int64]time.Time
}

func newJournaled(t *testing.T, dir string) *journaled {
	t.Helper()
	server := embedded.StartEtcd(t)
	conn, err := etcd.New(etcd.Config{Endpoints: server.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	b, err := storage.New(storage.Config{Name: "local", URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	records := memory.New(nil)
	c, err := cluster.New(cluster.Config{
		Name: "default", Node: "node", Prefix: "default/", SpoolDir: t.TempDir(), Source: etcd.NewSource(conn, etcd.SourceConfig{}),
		Records: records, Saves: records, History: records, Stores: records, Backends: []repository.Backend{b},
	})
	if err != nil {
		t.Fatal(err)
	}
	j := &journaled{Client: server.Client(t), cluster: c, clock: time.Now().Truncate(time.Second), times: map[int64]time.Time{}}
	j.timeline = segment.NewTimeline(uint64(server.Server().Cluster().ID()), time.Now())
	j.header = segment.Header{Timeline: j.timeline, Level: segment.Level10s}
	j.segments = segments.New(segments.Config{Repository: repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/"})})
	j.watch = j.Watch(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithRev(1))
	return j
}

// put writes a value, and returns the revision.
func (j *journaled) put(t *testing.T, value string, opts ...clientv3.OpOption) int64 {
	t.Helper()
	resp, err := j.Put(t.Context(), "key", value, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

// journal stores a segment of all revisions up to one, and other entries.
func (j *journaled) journal(t *testing.T, to int64, extra ...segment.Entry) segment.Header {
	t.Helper()
	b, err := segment.NewBuilder(j.header)
	if err != nil {
		t.Fatal(err)
	}
	for b.Header().Last < to {
		for _, e := range (<-j.watch).Events {
			kv := e.Kv
			if e.Type == clientv3.EventTypeDelete {
				kv = &mvccpb.KeyValue{Key: kv.Key}
			}
			value, err := proto.Marshal(kv)
			if err != nil {
				t.Fatal(err)
			}
			at := j.clock.Add(time.Second)
			j.clock, j.times[e.Kv.ModRevision] = at, at
			rec := segment.Record{Tombstone: e.Type == clientv3.EventTypeDelete, Value: value}
			if err := b.Add(segment.Revision{Main: e.Kv.ModRevision, Time: at, Records: []segment.Record{rec}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, e := range extra {
		if err := b.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Seal()
	if err == nil {
		err = j.segments.Put(t.Context(), s)
	}
	if err != nil {
		t.Fatal(err)
	}
	j.header.Previous, j.header.PreviousChain = s.Header.Last, s.Header.Chain
	return s.Header
}

func (j *journaled) save(t *testing.T) string {
	t.Helper()
	res, err := j.cluster.Save(t.Context(), cluster.SaveRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return res.Snapshot.Name
}

// A revision between two snapshots is restored from a directory with nothing else, by the commands that the plan
// prints.
func TestRestoreWithTheJournal(t *testing.T) {
	t.Parallel()
	dir, parent := t.TempDir(), t.TempDir()
	j := newJournaled(t, dir)
	j.put(t, "before")
	first := j.save(t)
	lease, err := j.Grant(t.Context(), 1234)
	if err != nil {
		t.Fatal(err)
	}
	held := j.put(t, "held", clientv3.WithLease(lease.ID))
	j.journal(t, held, segment.Lease{ID: int64(lease.ID), GrantedTTL: 1234, Revision: held})
	deleted, err := j.Delete(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Revoke(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	last := j.put(t, "after")
	lost := j.journal(t, last, segment.Watermark{Revision: last, Time: j.clock.Add(time.Minute)})
	if _, err := j.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	second := j.save(t)

	target := filepath.Join(parent, "data")
	from := []string{"--from", "file://" + dir, "--data-dir", target}
	plan := run(t.Context(), nil, append([]string{"restore", "--revision", strconv.FormatInt(held, 10), "--dry-run"}, from...)...)
	for _, want := range []string{
		"snapshot   " + first, "journal    " + string(j.timeline) + ": 1 segment of 10s", fmt.Sprintf(" from revision %d of the snapshot to %d\n", held-1, held),
		fmt.Sprintf("revision   %d, 1 keys\n", held), "leases     with keys: 1, ", "not given  users, roles and alarms",
		fmt.Sprintf("snapshotd restore %s --revision %d --from ", first, held),
	} {
		if plan.code != 0 || !strings.Contains(plan.stdout, want) {
			t.Errorf("exit code %d, no %q in\n%s%s", plan.code, want, plan.stdout, plan.stderr)
		}
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("the plan has left %v, %v", left, err)
	}
	if r := run(t.Context(), nil, append([]string{"restore", first, "--revision", strconv.FormatInt(held, 10)}, from...)...); r.code != 0 {
		t.Fatalf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if value, revision := valueIn(t, target); value != "held" || revision != held {
		t.Errorf("the key is %q at revision %d, want %d", value, revision, held)
	}

	at := j.times[deleted.Header.Revision].UTC().Format(time.RFC3339Nano)
	plan = run(t.Context(), nil, "restore", "--at", at, "--dry-run", "--from", "file://"+dir, "--data-dir", target+"2")
	for _, want := range []string{"time       at ", fmt.Sprintf(" and %d\n", last), "leases     with keys: 0, "} {
		if plan.code != 0 || !strings.Contains(plan.stdout, want) {
			t.Errorf("exit code %d, no %q in\n%s%s", plan.code, want, plan.stdout, plan.stderr)
		}
	}
	if r := run(t.Context(), nil, "verify", second, "--from", "file://"+dir, "--journal"); r.code != 0 || !strings.Contains(r.stdout, "same       HashKV ") {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}

	// The journal is no snapshot, and nobody's foreign file.
	if r := run(t.Context(), nil, "list", "--from", "file://"+dir); r.code != 0 || strings.Count(r.stdout, "\n") != 3 || r.stderr != "" {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	res, err := j.cluster.Reconcile(t.Context(), cluster.ReconcileRequest{Repair: true})
	if err != nil || len(res) != 1 || res[0].Err != nil || res[0].Added+res[0].Updated+res[0].Removed > 0 {
		t.Errorf("reconcile: %+v, %v", res, err)
	}
	if m, err := j.segments.Newest(t.Context(), j.timeline); err != nil || m.Last != last {
		t.Errorf("the newest segment is %+v, %v", m, err)
	}

	if err := j.segments.Remove(t.Context(), segments.RefOf(&lost)); err != nil {
		t.Fatal(err)
	}
	r := run(t.Context(), nil, "restore", first, "--revision", strconv.FormatInt(last-1, 10), "--from", "file://"+dir, "--data-dir", target+"3")
	if r.code != 6 || !strings.Contains(r.stderr, fmt.Sprintf("%s holds the revisions", first)) {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}

// A segment is lost, and no snapshot is behind it. Without being told to, nothing is restored behind it; the error says
// how, and the result what it is.
func TestRestoreOverAGap(t *testing.T) {
	dir, parent := t.TempDir(), t.TempDir()
	j := newJournaled(t, dir)
	j.put(t, "before")
	first := j.save(t)
	j.journal(t, j.put(t, "known"))
	lost := j.journal(t, j.put(t, "lost"))
	last := j.put(t, "after")
	j.journal(t, last)
	if err := j.segments.Remove(t.Context(), segments.RefOf(&lost)); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(parent, "data")
	args := []string{"restore", "--revision", strconv.FormatInt(last, 10), "--from", "file://" + dir, "--data-dir", target}
	gap := fmt.Sprintf("revision %d", lost.First)
	if r := run(t.Context(), nil, args...); r.code == 0 || !strings.Contains(r.stderr, gap) || !strings.Contains(r.stderr, "--cross-gaps") {
		t.Errorf("not told to: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	at := func(revision int64) string { return j.times[revision].UTC().Format("15:04:05.000Z") }
	args = append(args, "--cross-gaps")
	plan := run(t.Context(), nil, append(args, "--dry-run")...)
	for _, want := range []string{
		"CROSSED    " + gap + " LOST, between ", at(lost.First-1) + " and ", at(last) + ": no backend has a segment with them", "right are the 1 keys",
		"whether they changed in a gap is not known", fmt.Sprintf("snapshotd restore %s --revision %d --cross-gaps --from ", first, last),
	} {
		if plan.code != 0 || !strings.Contains(plan.stdout, want) {
			t.Errorf("exit code %d, no %q in\n%s%s", plan.code, want, plan.stdout, plan.stderr)
		}
	}
	r := run(t.Context(), nil, append(args, "--output", "json")...)
	if r.code != 0 || !strings.Contains(r.stderr, "the cluster NEVER HAD THIS STATE, lost: "+gap) ||
		!strings.Contains(r.stdout, `"crossedGaps"`) || !strings.Contains(r.stdout, fmt.Sprintf(`"revision": "%d"`, last)) {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if value, revision := valueIn(t, target); value != "after" || revision != last {
		t.Errorf("the key is %q at revision %d, want %d", value, revision, last)
	}
	if r := run(t.Context(), nil, "restore", "latest", "--from", "file://"+dir, "--data-dir", target+"2", "--cross-gaps"); r.code != 2 {
		t.Errorf("of a snapshot: exit code %d: %s", r.code, r.stderr)
	}
}
