package daemon

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	catalogmemory "github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/telemetry"
)

// restarted is a cluster whose process knows nothing yet but its catalog, where another one has saved.
type restarted struct {
	*managed
	s3  *bucket
	now time.Time // of the other process
}

func newRestarted(t *testing.T) *restarted {
	t.Helper()
	tel, err := telemetry.Start(t.Context(), telemetry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.WithoutCancel(t.Context())) })
	r := &restarted{s3: &bucket{Backend: memory.New("s3", snapshot.BackendS3)}, now: time.Now()}
	f := &fleet{read: make(chan string, 9), send: make(chan struct{}, 9)}
	for range 9 {
		f.send <- struct{}{}
	}
	records := catalogmemory.New(time.Now)
	c, err := cluster.New(cluster.Config{
		Name: "default", Node: "node-1", Prefix: "default/", SpoolDir: t.TempDir(), Source: source{f, t, "default"},
		Records: records, Saves: records, History: records, Stores: records,
		Backends: []repository.Backend{memory.New("local", snapshot.BackendS3), r.s3}, Now: func() time.Time { return r.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	tel.AddCluster(t.Context(), "default", c.BackendNames())
	hourly := func() time.Duration { return time.Hour }
	r.managed = &managed{Cluster: c, telemetry: tel, interval: hourly, log: slog.New(slog.DiscardHandler)}
	return r
}

// save saves to backends, as long as s3 takes snapshots or not.
func (r *restarted) save(t *testing.T, down bool, backends ...string) {
	t.Helper()
	r.s3.down.Store(down)
	if _, err := r.Cluster.Save(t.Context(), cluster.SaveRequest{Backends: backends}); (err != nil) != down {
		t.Fatalf("the save to %s ends with %v", backends, err)
	}
}

// lastSave returns the last save to s3 with a result, as a metric.
func (r *restarted) lastSave(t *testing.T, result string) string {
	t.Helper()
	return r.metric(t, `snapshotd_last_save_timestamp_seconds{backend="s3",cluster="default",result="`+result+`"}`)
}

func (r *restarted) metric(t *testing.T, series string) string {
	t.Helper()
	value := metric(r.telemetry, series)
	if value == "" {
		t.Fatalf("there is no %s", series)
	}
	return value
}

// metric returns the value of a series as the scrape has it; "" when it has none.
func metric(tel *telemetry.Telemetry, series string) string {
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(rec.Body.String()) {
		if value, found := strings.CutPrefix(line, series+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// An alert compares the two times: one of the future would decide it until then.
func TestASaveOfTheFutureIsNotTheLastOne(t *testing.T) {
	for name, down := range map[string]bool{"it has failed": true, "it has succeeded": false} {
		t.Run(name, func(t *testing.T) {
			r := newRestarted(t)
			r.now = time.Now().Add(1000 * time.Hour)
			r.save(t, down, "s3")
			r.now = time.Now()
			r.save(t, !down, "s3")
			if pause := r.refresh(t.Context()); pause != r.interval() {
				t.Fatalf("it is tried again after %s", pause)
			}
			of := map[bool]string{true: "error", false: "success"}
			if got := r.lastSave(t, of[down]); got != "0" {
				t.Errorf("the one of the future is told: %s", got)
			}
			if got := r.lastSave(t, of[!down]); got == "0" {
				t.Error("the one after it is not told")
			}
		})
	}
}

func TestAFailureEndsWhenNoScheduleSavesThereAnyMore(t *testing.T) {
	r := newRestarted(t)
	r.save(t, true, "s3")
	r.now = r.now.Add(time.Second)
	refresh := func(schedules ...schedule.Schedule) (failed bool) {
		r.schedules = schedules
		if err := r.refreshSaves(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r.lastSave(t, "error") != "0"
	}
	local := schedule.Schedule{Name: "hourly", Save: cluster.SaveRequest{Backends: []string{"local"}}}
	if !refresh(local) {
		t.Fatal("the save that has failed there is not told")
	}
	r.save(t, false, "local")
	for name, more := range map[string]schedule.Schedule{
		"s3": {Name: "nightly", Save: cluster.SaveRequest{Backends: []string{"s3"}}}, "all backends": {Name: "nightly"},
	} {
		if !refresh(local, more) {
			t.Errorf("a schedule saves to %s, and the failure has ended", name)
		}
	}
	if refresh(local) {
		t.Error("no save goes there, and the failure goes on")
	}
}

// Another replica has mended what this one, or a third, had failed at.
func TestTheLastRunOfAScheduleIsReadAfterARestart(t *testing.T) {
	r := newRestarted(t)
	conn, err := etcd.New(etcd.Config{Endpoints: embedded.StartEtcd(t).Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	r.catalog = catalog.New(catalog.Config{Connect: conn.Client, Cluster: "default"})
	term, cancel := context.WithCancel(t.Context())
	defer cancel()
	_ = r.catalog.Lead(term, "node-2", func(ctx context.Context, leads *catalog.Term) {
		defer cancel()
		if err := leads.PutLastDue(ctx, "nightly", time.Unix(1_700_000_000, 0)); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"nightly", "new"} {
		r.schedules = append(r.schedules, schedule.Schedule{Name: name})
		r.telemetry.AddSchedule(t.Context(), "default", name)
	}
	if pause := r.refresh(t.Context()); pause != r.interval() {
		t.Fatalf("it is tried again after %s", pause)
	}
	for name, want := range map[string]string{"nightly": "1.7e+09", "new": "0"} {
		if got := r.metric(t, `snapshotd_schedule_last_run_timestamp_seconds{cluster="default",schedule="`+name+`"}`); got != want {
			t.Errorf("the last run of %s is %s, want %s", name, got, want)
		}
	}
}

// A copy that was found damaged since its save is no failure of the save: another alert tells of it.
func TestACopyThatWasFoundDamagedIsNoFailedSave(t *testing.T) {
	r := newRestarted(t)
	r.save(t, false, "s3")
	page, err := r.List(t.Context(), snapshot.Query{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	uri := page.Records[0].Location("s3").URI
	key := strings.TrimPrefix(uri, "mem://s3/")
	held, err := r.s3.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.NewReader(strings.Repeat("x", int(held.Size)))
	if err := r.s3.Put(t.Context(), key, wrong, repository.PutOptions{ContentType: "application/zstd"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Verify(t.Context(), cluster.VerifyRequest{
		Name: page.Records[0].Name, Level: snapshot.LevelChecksum,
	}); err == nil {
		t.Fatal("it passes")
	}
	if rec, err := r.Get(t.Context(), page.Records[0].Name); err != nil || rec.State() != snapshot.StateFailed {
		t.Fatalf("it is %+v, %v", rec, err)
	}
	if err := r.refreshSaves(t.Context()); err != nil {
		t.Fatal(err)
	}
	if failed, saved := r.lastSave(t, "error"), r.lastSave(t, "success"); failed != "0" || saved == "0" {
		t.Errorf("the last save that failed is %s, and the last that succeeded %s", failed, saved)
	}
}
