package schedule_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
	"github.com/snapshotd/snapshotd/telemetry"
)

// traced is a cluster whose spans go to a collector, with two directories of which the second one is missing at first.
type traced struct {
	*cluster.Cluster
	otlp    *testenv.OTLP
	records *catalog.Catalog
	first   string
	second  string        // the missing directory
	ahead   atomic.Int64  // by which the cluster's clock is, in nanoseconds
	wake    chan struct{} // asks the loop for a repair
	flush   func()        // sends all spans that have ended
}

func newTraced(t *testing.T) *traced {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
	x := &traced{
		otlp: testenv.StartOTLP(t), first: t.TempDir(), second: filepath.Join(t.TempDir(), "second"), wake: make(chan struct{}, 1),
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", x.otlp.HTTP)
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50") // milliseconds, for which finished spans are kept; the default is 5 s
	tel, err := telemetry.Start(t.Context(), telemetry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := etcd.New(etcd.Config{Endpoints: testenv.StartCluster(t, 1).Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	// The shortest lease: it is renewed three times a second.
	x.records = catalog.New(catalog.Config{Connect: conn.Client, Cluster: "prod", LockTTL: time.Second})
	x.flush = sync.OnceFunc(func() {
		ctx := context.WithoutCancel(t.Context())
		_, _, _ = x.records.Close(ctx), conn.Close(ctx), tel.Shutdown(ctx)
	})
	t.Cleanup(x.flush)
	cfg := cluster.Config{
		Name: "prod", Node: "node-1", Prefix: "prod/", SpoolDir: t.TempDir(), Source: etcd.NewSource(conn, etcd.SourceConfig{}),
		Records: x.records, Saves: x.records, History: x.records, Stores: x.records, Observer: tel.Observer(),
		Now: func() time.Time { return time.Now().Add(time.Duration(x.ahead.Load())) },
	}
	for name, dir := range map[string]string{"first": x.first, "second": x.second, "kept": t.TempDir()} {
		b, err := storage.New(storage.Config{Name: name, URL: "file://" + dir})
		if err != nil {
			t.Fatal(err)
		}
		if name == "kept" {
			cfg.Fallback = b
			continue
		}
		cfg.Backends = append(cfg.Backends, b)
	}
	if x.Cluster, err = cluster.New(cfg); err != nil {
		t.Fatal(err)
	}
	return x
}

// lead runs the loop of a leader until ctx is done.
func (x *traced) lead(ctx context.Context, schedules ...schedule.Schedule) {
	schedule.New(schedule.Config{
		Cluster: "prod", Interval: every(time.Hour), Reconcile: x.Maintain, Repair: x.Repair, Wake: x.wake,
		Runs: []schedule.Runs{{Schedules: schedules, Save: x.Save}},
		Lead: func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
			return x.records.Lead(ctx, "node-1", func(ctx context.Context, term *catalog.Term) { lead(ctx, term) })
		},
	}).Run(ctx)
}

// lastDue notes when a schedule was due last.
func (x *traced) lastDue(t *testing.T, name string, due time.Time) {
	t.Helper()
	ctx, done := context.WithCancel(t.Context())
	_ = x.records.Lead(ctx, "node-1", func(ctx context.Context, term *catalog.Term) {
		defer done()
		if err := term.PutLastDue(ctx, name, due); err != nil {
			t.Error(err)
		}
	})
}

// tree is a trace, as one line for each of its spans: the names from the root to the span. What the libraries add is
// left out.
func tree(spans []testenv.Span, root testenv.Span) (paths []string, attrs map[string]map[string]string) {
	byID := map[string]testenv.Span{}
	for _, s := range spans {
		byID[s.SpanID] = s
	}
	attrs = map[string]map[string]string{}
	for _, s := range spans {
		if s.TraceID != root.TraceID || strings.HasPrefix(s.Name, "etcdserverpb.") {
			continue
		}
		path := s.Name
		for up := byID[s.ParentID]; up.SpanID != ""; up = byID[up.ParentID] {
			path = up.Name + " > " + path
		}
		paths, attrs[path] = append(paths, path), s.Attributes
	}
	slices.Sort(paths)
	return slices.Compact(paths), attrs
}

func roots(spans []testenv.Span) map[string][]testenv.Span {
	all := map[string][]testenv.Span{}
	for _, s := range spans {
		if s.ParentID == "" {
			all[s.Name] = append(all[s.Name], s)
		}
	}
	return all
}

// TestEachRunIsOneTrace lets a leader reconcile, save by a schedule while a backend is missing, and repair. It then
// looks for work a minute long, once a second, as an idle service does.
func TestEachRunIsOneTrace(t *testing.T) {
	x := newTraced(t)
	x.lastDue(t, "nightly", time.Now().Add(-90*time.Minute)) // so that it is due now, and then in half an hour
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { x.lead(ctx, schedule.Schedule{Name: "nightly", Spec: spec(t, "@every 1h", "")}) })
	t.Cleanup(func() { stop(); wg.Wait() })

	save := x.otlp.WaitSpan(t, "scheduled save")
	if err := os.Mkdir(x.second, 0o700); err != nil {
		t.Fatal(err)
	}
	x.ahead.Store(int64(2 * time.Minute))
	x.wake <- struct{}{}
	x.otlp.WaitSpan(t, "repair")
	for range 60 {
		x.poll(t)
	}
	x.checkRecord(t, save.TraceID)
	stop()
	wg.Wait()
	x.flush()

	spans := x.otlp.Spans()
	all := roots(spans)
	for name, want := range map[string]int{"reconcile": 1, "scheduled save": 1, "repair": 1} {
		if n := len(all[name]); n != want {
			t.Errorf("%q is the root of %d traces, want %d", name, n, want)
		}
		delete(all, name)
	}
	for name, others := range all {
		t.Errorf("%q is the root of %d traces", name, len(others))
	}
	x.checkSave(t, spans, save)
	paths, _ := tree(spans, roots(spans)["repair"][0])
	for _, want := range []string{"repair > snapshot repair", "repair > snapshot repair > storage put"} {
		if !slices.Contains(paths, want) {
			t.Errorf("the repair is\n%s\nand has no %s", strings.Join(paths, "\n"), want)
		}
	}
	paths, _ = tree(spans, roots(spans)["reconcile"][0])
	if want := "reconcile > snapshot reconcile > storage list"; !slices.Contains(paths, want) {
		t.Errorf("the reconcile is\n%s\nand has no %s", strings.Join(paths, "\n"), want)
	}
}

// TestEachScrubAndDeliveryIsOneTrace lets a save fail on both backends, so that it is kept, brings it to the first one
// when they are there again, and lets a leader scrub it.
func TestEachScrubAndDeliveryIsOneTrace(t *testing.T) {
	x := newTraced(t)
	if err := os.Remove(x.first); err != nil {
		t.Fatal(err)
	}
	saved, err := x.Save(t.Context(), cluster.SaveRequest{})
	if err == nil || saved.Snapshot == nil {
		t.Fatalf("a save without backends: %+v, %v", saved, err)
	}
	for _, dir := range []string{x.first, x.second} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	x.ahead.Store(int64(2 * time.Minute))
	if _, err := x.UploadFallback(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.lastDue(t, "@scrub", time.Now().Add(-90*time.Minute))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		x.lead(ctx, schedule.Schedule{Name: "@scrub", Spec: spec(t, "@every 1h", ""), Do: func(ctx context.Context) error {
			return x.Scrub(ctx, cluster.Scrub{Share: 100})
		}})
	})
	t.Cleanup(func() { stop(); wg.Wait() })
	x.otlp.WaitSpan(t, "scrub")
	stop()
	wg.Wait()
	x.flush()

	spans := x.otlp.Spans()
	all := roots(spans)
	for name, tc := range map[string]struct {
		has        []string
		attributes map[string]string
	}{
		"scrub": {
			[]string{"scrub > snapshot verify > storage get", "scrub > catalog put last due"},
			map[string]string{"cluster": "prod", "schedule": "@scrub", "result": "success"},
		},
		"deliver": {
			[]string{"deliver > snapshot repair > storage put"}, map[string]string{"cluster": "prod", "snapshot": saved.Snapshot.Name},
		},
	} {
		runs := all[name]
		if delete(all, name); len(runs) != 1 {
			t.Errorf("%q is the root of %d traces, want one", name, len(runs))
			continue
		}
		paths, attrs := tree(spans, runs[0])
		for _, want := range tc.has {
			if !slices.Contains(paths, want) {
				t.Errorf("the %s is\n%s\nand has no %s", name, strings.Join(paths, "\n"), want)
			}
		}
		for key, want := range tc.attributes {
			if got := attrs[name][key]; got != want {
				t.Errorf("attribute %s of the %s is %q, want %q", key, name, got, want)
			}
		}
	}
	for _, name := range []string{"snapshot save", "reconcile", "repair"} { // of the save, and of the leader
		delete(all, name)
	}
	for name, others := range all {
		t.Errorf("%q is the root of %d traces", name, len(others))
	}
}

// checkRecord finds the schedule and the trace in the record and in the manifest of the only snapshot.
func (x *traced) checkRecord(t *testing.T, trace string) {
	t.Helper()
	page, err := x.List(t.Context(), snapshot.Query{PageSize: 10})
	if err != nil || len(page.Records) != 1 {
		t.Fatalf("there are %d records: %v", len(page.Records), err)
	}
	rec := page.Records[0]
	if rec.Schedule != "nightly" || rec.TraceID != trace {
		t.Errorf("the record has the schedule %q and the trace %q, want %q", rec.Schedule, rec.TraceID, trace)
	}
	doc, err := os.ReadFile(filepath.Join(x.second, "prod", rec.Name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"schedule": "nightly"`, `"traceId": "` + trace + `"`} {
		if !strings.Contains(string(doc), want) {
			t.Errorf("the manifest has no %s:\n%s", want, doc)
		}
	}
}

// poll asks what a service asks for as long as it lives.
func (x *traced) poll(t *testing.T) {
	t.Helper()
	_, err := x.Repair(t.Context())
	_, derr := x.UploadFallback(t.Context())
	_, lerr := x.List(t.Context(), snapshot.Query{States: []snapshot.State{snapshot.StateReady}, PageSize: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	_ = x.records.Lead(ctx, "node-2", func(context.Context, *catalog.Term) { t.Error("there are two leaders") })
	for _, err := range x.records.Changes(ctx, snapshot.Position{}) {
		_ = err // the watch ends with its context
	}
	if err != nil || derr != nil || lerr != nil {
		t.Fatal(err, derr, lerr)
	}
}

// checkSave holds the trace of the scheduled save, which the second backend did not take, against what it should be.
func (x *traced) checkSave(t *testing.T, spans []testenv.Span, root testenv.Span) {
	t.Helper()
	paths, attrs := tree(spans, root)
	const top = "scheduled save"
	for _, want := range []string{
		top, top + " > catalog put last due", top + " > catalog lock", top + " > catalog begin", top + " > catalog unlock",
		top + " > snapshot save", top + " > snapshot save > catalog update", top + " > snapshot save > etcd snapshot stream",
		top + " > snapshot save > snapshot write > storage put",
	} {
		if !slices.Contains(paths, want) {
			t.Errorf("the scheduled save is\n%s\nand has no %s", strings.Join(paths, "\n"), want)
		}
	}
	for key, want := range map[string]string{"cluster": "prod", "schedule": "nightly", "result": "partial"} {
		if got := attrs[top][key]; got != want {
			t.Errorf("attribute %s is %q, want %q", key, got, want)
		}
	}
	if attrs[top]["snapshot"] == "" || attrs[top]["snapshot"] != attrs[top+" > snapshot save"]["snapshot"] {
		t.Errorf("the root names the snapshot %q", attrs[top]["snapshot"])
	}
	byID := map[string]testenv.Span{}
	for _, s := range spans {
		byID[s.SpanID] = s
	}
	var recorded, failed []string
	for _, s := range spans {
		if s.TraceID != root.TraceID {
			continue
		}
		// A reconcile may make the mark of a new store at the same moment: then the store refuses one of them, and the
		// call goes well all the same.
		refused := byID[s.ParentID].Name == "storage put" && byID[s.ParentID].Error == ""
		if s.Exceptions > 0 && !refused {
			recorded = append(recorded, fmt.Sprintf("%s of %s, %d times", s.Name, s.Attributes["backend"], s.Exceptions))
		}
		if s.Error != "" {
			failed = append(failed, s.Name+" "+s.Attributes["error.type"])
		}
		kind := "SPAN_KIND_INTERNAL"
		if strings.HasPrefix(s.Name, "catalog ") || strings.HasPrefix(s.Name, "etcdserverpb.") || s.Name == "etcd snapshot stream" {
			kind = "SPAN_KIND_CLIENT"
		}
		if s.Kind != kind {
			t.Errorf("%s is of the kind %s, want %s", s.Name, s.Kind, kind)
		}
	}
	if len(recorded) != 1 || !strings.HasPrefix(recorded[0], "storage ") || !strings.HasSuffix(recorded[0], " of second, 1 times") {
		t.Errorf("the error was recorded by %q, want the one call of the store that failed", recorded)
	}
	slices.Sort(failed)
	if !slices.Contains(failed, top+" BACKEND_NOT_FOUND") || !slices.Contains(failed, "snapshot write BACKEND_NOT_FOUND") {
		t.Errorf("these failed: %q", failed)
	}
}
