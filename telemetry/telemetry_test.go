package telemetry_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/telemetry"
)

var update = flag.Bool("update", false, "write the golden files")

// clearEnv unsets the variables that would export the telemetry of a test.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
}

// start starts telemetry that ends with the test. The tests of this package share OpenTelemetry's global state and so
// do not run in parallel.
func start(t *testing.T, cfg telemetry.Config) *telemetry.Telemetry {
	t.Helper()
	tel, err := telemetry.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := tel.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return tel
}

// scrape returns the scrape in Prometheus' text format.
func scrape(t *testing.T, tel *telemetry.Telemetry, accept string) string {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", accept)
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, req)
	body, err := io.ReadAll(rec.Result().Body)
	if err != nil || rec.Code != 200 {
		t.Fatalf("scrape: status %d, %v\n%s", rec.Code, err, body)
	}
	return string(body)
}

// only returns the lines of a scrape that are about metrics whose names begin with prefix.
func only(text, prefix string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, prefix) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the scrape differs from %s (go test -update writes it anew):\n%s", file, got)
	}
}

var errTest = errors.New("bucket is on fire")

// saved returns a snapshot on the directory, and in a state on S3.
func saved(s snapshot.Snapshot, s3 snapshot.State) *snapshot.Snapshot {
	return snapshot.WithStatus(s, snapshot.Status{Locations: []snapshot.Location{
		{Backend: "local", State: snapshot.StateReady}, {Backend: "s3", State: s3},
	}})
}

// observe reports a fixed series of events: a save whose S3 part failed, a good one, a rejected one, a reconcile.
func observe(ctx context.Context, tel *telemetry.Telemetry) {
	tel.AddCluster(ctx, "prod", []string{"local", "s3"})
	tel.AddSchedule(ctx, "prod", "nightly", "success", "partial", "failed")
	tel.Ran(ctx, "prod", "nightly", "success", time.Unix(1700000000, 0), true)
	tel.Ran(ctx, "prod", "nightly", "failed", time.Unix(1700086400, 0), false)
	tel.AddSchedule(ctx, "prod", "weekly", "success")
	tel.Interval(ctx, "prod", "nightly", 24*time.Hour)
	tel.Due(ctx, "prod", "nightly", time.Unix(1700172800, 0))
	tel.Leader(ctx, "prod", true)
	for _, verdict := range []string{"unknown", "attention"} {
		tel.Judged(ctx, "prod", verdict, []string{"safe", "attention", "not_safe", "unknown"})
	}
	tel.AddJournal(ctx, "prod", func() telemetry.JournalState {
		return telemetry.JournalState{
			Proven: time.Unix(1700000000, 0), Leading: true, RPO: 400 * time.Millisecond, Revision: 4711, Lag: 3, LocalBytes: 5 << 20,
			Backends: []telemetry.JournalBackend{
				{Name: "local", RPO: time.Second, Segments: 7, Bytes: 7000, Compared: true, Lacking: 12, Damaged: 1, Copied: 5},
				{Name: "s3", RPO: 9 * time.Second, Segments: 6, Bytes: 6000},
			},
		}
	}, []string{"restored", "compacted"}, []string{"snapshot"})
	tel.JournalBroken(ctx, "prod", "compacted")
	tel.JournalChecked(ctx, "prod", "snapshot", true)
	tel.AddJournal(ctx, "stage", func() telemetry.JournalState { return telemetry.JournalState{LocalBytes: 1} }, nil, nil)
	tel.Leader(ctx, "stage", false)
	tel.Reloaded(ctx, false)
	tel.AddCertificate("prod", func() (begin, end time.Time) { return time.Unix(1700000000, 0), time.Unix(1800000000, 0) })
	local, s3 := snapshot.BackendLocal, snapshot.BackendS3
	for _, ev := range []snapshot.Event{
		{Type: snapshot.EventVerified, Verification: &snapshot.Verification{Level: snapshot.LevelDrill, Passed: true}},
		{Type: snapshot.EventProven, Revision: 42, ProvenTime: time.Unix(1700000000, 0)},
		{Type: snapshot.EventWritten, Kind: local, Duration: 12 * time.Millisecond},
		{Type: snapshot.EventWritten, Kind: s3, Duration: 3 * time.Second, Err: errTest},
		{Type: snapshot.EventFinished, Duration: 3100 * time.Millisecond, Err: errTest, Snapshot: saved(snapshot.Snapshot{
			Cluster: "prod", CreateTime: time.Unix(1700000000, 0), Revision: 1,
		}, snapshot.StateFailed)},
		{Type: snapshot.EventWritten, Kind: local, Duration: 8 * time.Millisecond},
		{Type: snapshot.EventWritten, Kind: s3, Duration: 400 * time.Second},
		{Type: snapshot.EventFinished, Duration: 401 * time.Second, Snapshot: saved(snapshot.Snapshot{
			Cluster: "prod", CreateTime: time.Unix(1800000000, 5e8), Revision: 4711, DBSize: 1 << 30, StoredSize: 100 << 20,
		}, snapshot.StateReady)},
		{Type: snapshot.EventSaveRejected},
		{Type: snapshot.EventListed, Kind: local, Duration: time.Millisecond},
		{Type: snapshot.EventListed, Kind: s3, Duration: 250 * time.Millisecond, Err: errTest},
		{Type: snapshot.EventCounted, States: map[snapshot.State]int64{snapshot.StateReady: 2, snapshot.StatePartial: 1}},
		{Type: snapshot.EventSwept, Backend: "s3", Count: 3},
		{Type: snapshot.EventRepaired, Backend: "s3"},
		{Type: snapshot.EventRepaired, Backend: "s3", Err: errors.New("the backend is down")},
		{Type: snapshot.EventRepairsQueued, Queued: map[string]snapshot.RepairQueue{
			"s3": {Count: 2, Since: time.Unix(1700000000, 0)},
		}},
		{Type: snapshot.EventReconciled, Duration: 500 * time.Millisecond, Err: errTest, Backends: map[string]error{
			"local": nil, "s3": errTest,
		}},
	} {
		ev.Cluster, ev.Time = "prod", time.Unix(1800000000, 0)
		tel.Observer().Observe(ctx, ev)
	}
	free := func() int64 { return 1 << 30 }
	tel.AddDataDir(free)
	tel.AddRooms("prod", map[string]func() int64{"local": free})
}

func TestTheScrapeIsWhatDashboardsAreMadeOf(t *testing.T) {
	clearEnv(t)
	for _, tc := range []struct{ prefix, names, file string }{
		{"", "etcd_snapshot_", "six.golden"},
		{"k3s_", "k3s_etcd_snapshot_", "six-k3s.golden"},
		{"k3s", "k3s_etcd_snapshot_", "six-k3s.golden"},
	} {
		t.Run("prefix="+tc.prefix, func(t *testing.T) {
			tel := start(t, telemetry.Config{MetricsPrefix: tc.prefix, ServiceVersion: "1.2.3"})
			observe(t.Context(), tel)
			text := scrape(t, tel, "")
			six := only(text, tc.names)
			golden(t, tc.file, six)
			golden(t, "own.golden", withoutGoVersion(only(text, "snapshotd_")))
			checkSix(t, six)
		})
	}
}

// withoutGoVersion hides the version, which differs between machines.
func withoutGoVersion(text string) string {
	before, rest, _ := strings.Cut(text, `go_version="`)
	_, after, _ := strings.Cut(rest, `"`)
	return before + `go_version="GO"` + after
}

// sixSample matches a sample of the six: status is its only label, beside the bound of a bucket.
var sixSample = regexp.MustCompile(`^(?:\w+_(?:sum|count)|(\w+_bucket))\{(status="\w+")(,le="[^"]+")?\} `)

func checkSix(t *testing.T, text string) {
	t.Helper()
	var histograms int
	buckets := map[string]int{} // by name and status
	for line := range strings.Lines(text) {
		sample := sixSample.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "# TYPE ") && strings.HasSuffix(line, " histogram\n"):
			histograms++
		case strings.HasPrefix(line, "# HELP "):
		case sample == nil || (sample[1] == "") != (sample[3] == ""):
			t.Errorf("%q is no sample of a histogram with the label status alone", line)
		case sample[1] != "":
			buckets[sample[1]+sample[2]]++
		}
	}
	for series, n := range buckets {
		if n != 16 {
			t.Errorf("%s has %d buckets, want 15 and +Inf", series, n)
		}
	}
	if histograms != 6 {
		t.Errorf("there are %d histograms, want 6", histograms)
	}
}

func TestACopyThatIsDeletedIsCounted(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddCluster(t.Context(), "prod", []string{"local", "s3"})
	tel.Observer().Observe(t.Context(), snapshot.Event{Type: snapshot.EventDeleted, Cluster: "prod", Backend: "s3"})
	want := `snapshotd_deleted_total{backend="local",cluster="prod"} 0
snapshotd_deleted_total{backend="s3",cluster="prod"} 1
`
	if got := only(scrape(t, tel, ""), "snapshotd_deleted"); !strings.HasSuffix(got, want) {
		t.Errorf("the scrape has\n%s", got)
	}
}

func TestEventsOfWatchersAloneHaveNoMetric(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	ours := func() string {
		text := scrape(t, tel, "")
		return only(text, "snapshotd_") + only(text, "etcd_snapshot_")
	}
	before := ours()
	for _, typ := range []snapshot.EventType{snapshot.EventStarted, snapshot.EventProgress} {
		tel.Observer().Observe(t.Context(), snapshot.Event{Type: typ, Cluster: "prod", Backend: "s3", Done: 7})
	}
	if after := ours(); after != before {
		t.Errorf("the scrape was\n%s\nand is\n%s", before, after)
	}
}

func TestTheBucketsHaveTheLabelsOfK3s(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	observe(t.Context(), tel)
	var got []string
	buckets := only(scrape(t, tel, ""), `etcd_snapshot_save_duration_seconds_bucket{status="success"`)
	for line := range strings.Lines(buckets) {
		_, rest, _ := strings.Cut(line, `le="`)
		le, _, _ := strings.Cut(rest, `"`)
		got = append(got, le)
	}
	want := []string{
		"0.008", "0.016", "0.032", "0.064", "0.128", "0.256", "0.512", "1.024",
		"2.048", "4.096", "8.192", "16.384", "32.768", "65.536", "131.072", "+Inf",
	}
	if !slices.Equal(got, want) {
		t.Errorf("buckets are %q, want %q", got, want)
	}
}

// TestPromtoolHasNoComplaint runs the checks of `promtool check metrics` on all metrics of ours.
func TestPromtoolHasNoComplaint(t *testing.T) {
	clearEnv(t)
	for _, prefix := range []string{"", "k3s_"} {
		tel := start(t, telemetry.Config{MetricsPrefix: prefix, ServiceVersion: "1.2.3"})
		observe(t.Context(), tel)
		problems, err := promlint.New(strings.NewReader(scrape(t, tel, ""))).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if strings.HasPrefix(p.Metric, prefix+"etcd_snapshot_") || strings.HasPrefix(p.Metric, "snapshotd_") {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	}
}

func TestAnObservationCountsAlthoughItsContextIsCancelled(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tel.Observer().Observe(ctx, snapshot.Event{
		Type: snapshot.EventFinished, Duration: time.Second, Err: context.Canceled,
	})
	if want := `etcd_snapshot_save_duration_seconds_count{status="error"} 1`; !strings.Contains(scrape(t, tel, ""), want) {
		t.Errorf("no %s", want)
	}
}

func TestTheLastSuccessNeverGoesBack(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.Observer().Observe(t.Context(), snapshot.Event{
		Type: snapshot.EventFinished, Cluster: "a",
		Snapshot: &snapshot.Snapshot{Cluster: "a", CreateTime: time.Unix(200, 0), Revision: 20},
	})
	tel.LastSuccess(t.Context(), &snapshot.Snapshot{Cluster: "a", CreateTime: time.Unix(100, 0), Revision: 10})
	tel.LastSuccess(t.Context(), &snapshot.Snapshot{Cluster: "b", CreateTime: time.Unix(50, 0), Revision: 5})
	text := scrape(t, tel, "")
	for _, want := range []string{
		`snapshotd_last_success_revision{cluster="a"} 20`, `snapshotd_last_success_revision{cluster="b"} 5`,
		`snapshotd_last_success_timestamp_seconds{cluster="a"} 200`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, only(text, "snapshotd_last"))
		}
	}
}

// A clock that was ahead for one save must not keep quiet for a year that there are no others.
func TestALastSuccessInTheFutureGivesWay(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	for revision, at := range []time.Time{time.Now().AddDate(1, 0, 0), time.Unix(200, 0)} {
		tel.Observer().Observe(t.Context(), snapshot.Event{
			Type: snapshot.EventFinished, Cluster: "a",
			Snapshot: &snapshot.Snapshot{Cluster: "a", CreateTime: at, Revision: int64(revision)},
		})
	}
	if text := scrape(t, tel, ""); !strings.Contains(text, `snapshotd_last_success_timestamp_seconds{cluster="a"} 200`) {
		t.Error(only(text, "snapshotd_last"))
	}
}

func TestAStateWithoutSnapshotsIsZero(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	for _, state := range []snapshot.State{snapshot.StatePartial, snapshot.StateReady} {
		tel.Observer().Observe(t.Context(), snapshot.Event{
			Type: snapshot.EventCounted, Cluster: "a", States: map[snapshot.State]int64{state: 2},
		})
	}
	if text := scrape(t, tel, ""); !strings.Contains(text, `snapshotd_snapshots{cluster="a",state="PARTIAL"} 0`) {
		t.Errorf("PARTIAL is not 0:\n%s", only(text, "snapshotd_snapshots"))
	}
}

// TestLibrariesKeepTheirScopes: gocloud tells file and S3 apart by an attribute of the scope alone. Without scope
// labels their series would collide and the scrape fail.
func TestLibrariesKeepTheirScopes(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	for _, driver := range []string{"file", "s3"} {
		meter := otel.Meter("gocloud", metric.WithInstrumentationAttributes(attribute.String("driver", driver)))
		c, err := meter.Int64Counter("library.bytes.read")
		if err != nil {
			t.Fatal(err)
		}
		c.Add(t.Context(), 7)
	}
	text := scrape(t, tel, "")
	for _, driver := range []string{"file", "s3"} {
		if !strings.Contains(only(text, "library_bytes_read"), `otel_scope_driver="`+driver+`"`) {
			t.Errorf("no series of %s in\n%s", driver, only(text, "library_bytes_read"))
		}
	}
}

// TestTheDurationOfCallsKeepsItsName pins the name that the instrumentation of gRPC gives: the wider buckets go by it.
func TestTheDurationOfCallsKeepsItsName(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.StatsHandler(otelgrpc.NewServerHandler()), grpc.WaitForHandlers(true))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(lis) })
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	srv.GracefulStop() // a duration is recorded when its handler has returned
	wg.Wait()
	text := scrape(t, tel, "")
	for _, name := range []string{"rpc_server_call_duration_seconds_bucket", "rpc_client_call_duration_seconds_bucket"} {
		if !strings.Contains(only(text, name), `le="3600"`) {
			t.Errorf("%s has no bucket of an hour:\n%s", name, only(text, "rpc_"))
		}
	}
	// A thousand clusters have thousands of members.
	if client := only(text, "rpc_client_call_duration"); strings.Contains(client, "server_address") {
		t.Errorf("the calls of each server that is called are counted apart:\n%s", client)
	}
}

func TestTheResourceIsWhole(t *testing.T) {
	clearEnv(t)
	var b strings.Builder
	start(t, telemetry.Config{ServiceVersion: "1.2.3", Node: "n", Logger: slog.New(slog.NewTextHandler(&b, nil))})
	if b.Len() != 0 {
		t.Errorf("a start without any setting complains:\n%s", b.String())
	}
}

func TestPrefixesThatPrometheusWouldNotTakeAreRefused(t *testing.T) {
	for prefix, ok := range map[string]bool{
		"": true, "k3s_": true, "k3s": true, "my_company_": true, "A1": true,
		"3s_": false, "_k3s_": false, "k3s__": false, "a__b": false, "k3s-": false,
		"a:b": false, "é_": false, "a b": false, "_": false,
	} {
		if err := telemetry.ValidPrefix(prefix); (err == nil) != ok {
			t.Errorf("ValidPrefix(%q) = %v, want ok = %v", prefix, err, ok)
		}
	}
	if _, err := telemetry.Start(t.Context(), telemetry.Config{MetricsPrefix: "a-b"}); err == nil {
		t.Error("Start took a prefix that is none")
	}
}

func TestErrorsGoToTheLoggerOnceAMinute(t *testing.T) {
	clearEnv(t)
	var b strings.Builder
	start(t, telemetry.Config{Logger: slog.New(slog.NewTextHandler(&b, nil))})
	for range 3 {
		otel.Handle(errors.New("collector is down"))
	}
	if n := strings.Count(b.String(), "collector is down"); n != 1 {
		t.Errorf("the complaint was logged %d times, want once:\n%s", n, b.String())
	}
}
