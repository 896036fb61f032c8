package telemetry_test

import (
	"strings"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/telemetry"
)

// clustersOf returns the clusters that a metric has series of.
func clustersOf(m *metricspb.Metric) (all []string) {
	for _, p := range append(m.GetSum().GetDataPoints(), m.GetGauge().GetDataPoints()...) {
		for _, a := range p.GetAttributes() {
			if a.GetKey() == "cluster" {
				all = append(all, a.GetValue().GetStringValue())
			}
		}
	}
	return all
}

// known makes a cluster known, with a snapshot that one backend did not take, and is damaged on the other one.
func known(t *testing.T, tel *telemetry.Telemetry, cluster string, at time.Time) {
	t.Helper()
	tel.AddCluster(t.Context(), cluster, []string{"local", "s3"})
	tel.AddSchedule(t.Context(), cluster, "hourly", "success", "failed")
	tel.AddJournal(t.Context(), cluster, func() telemetry.JournalState { return telemetry.JournalState{} },
		[]string{"compacted"}, []string{"drill"})
	tel.Leader(t.Context(), cluster, true)
	observeSave(t, tel, cluster, at)
	tel.Ran(t.Context(), cluster, "hourly", "success", at, true)
}

func observeSave(t *testing.T, tel *telemetry.Telemetry, cluster string, at time.Time) {
	t.Helper()
	s := saved(snapshot.Snapshot{Name: "one", Cluster: cluster, CreateTime: at, Revision: 5}, snapshot.StateFailed)
	tel.LastSuccess(t.Context(), s)
	for _, ev := range []snapshot.Event{
		{Type: snapshot.EventFinished, Err: errTest, Snapshot: s},
		{
			Type: snapshot.EventCounted, States: map[snapshot.State]int64{snapshot.StatePartial: 1},
			Damaged: map[string][]string{"one": {"s3"}},
		},
		{Type: snapshot.EventRepairsQueued, Queued: map[string]snapshot.RepairQueue{"s3": {Count: 1, Since: at}}},
	} {
		ev.Cluster = cluster
		tel.Observer().Observe(t.Context(), ev)
	}
}

// Alerts would fire for ever for a cluster that is not there.
func TestAClusterThatIsForgottenIsNotSentAnyMore(t *testing.T) {
	clearEnv(t)
	otlp := testenv.StartOTLP(t)
	t.Setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", otlp.HTTP+"/v1/metrics")
	tel := start(t, telemetry.Config{})
	for _, cluster := range []string{"gone", "stays"} {
		known(t, tel, cluster, time.Now())
	}
	tel.Forget("gone", "")
	tel.Leader(t.Context(), "gone", false) // its term ends meanwhile
	if got := scrape(t, tel, ""); strings.Contains(got, `"gone"`) {
		t.Errorf("the scrape has\n%s", got)
	}
	shutdown(t, tel)
	for _, name := range []string{
		"snapshotd.last_success.timestamp", "snapshotd.leader", "snapshotd.saves", "snapshotd.schedule.runs",
		"snapshotd.snapshots", "snapshotd.last_save.timestamp", "snapshotd.repairs.waiting", "snapshotd.journal.gaps",
	} {
		all := clustersOf(otlp.WaitMetric(t, name))
		if strings.Contains(strings.Join(all, " "), "gone") || len(all) == 0 {
			t.Errorf("%s is sent of %v", name, all)
		}
	}
}

// What was known of the first cluster of a name would keep alerts about another one quiet, or fire them.
func TestAClusterThatIsAddedAgainBeginsAnew(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	noon := time.Now().Add(-time.Hour)
	known(t, tel, "prod", noon)
	tel.Forget("prod", "")
	observeSave(t, tel, "prod", noon.Add(time.Minute)) // it ends meanwhile
	tel.AddCluster(t.Context(), "prod", []string{"local", "s3"})
	got := scrape(t, tel, "")
	for _, absent := range []string{
		"snapshotd_last_success_", "snapshotd_snapshots{", "snapshotd_schedule_", "snapshotd_leader", "snapshotd_journal_",
		"snapshotd_repairs_oldest_", "snapshotd_db_size",
	} {
		if left := only(got, absent); left != "" {
			t.Errorf("there is still\n%s", left)
		}
	}
	for _, series := range []string{
		`snapshotd_saves_total{backend="s3",cluster="prod",result="error"} 0`,
		`snapshotd_last_save_timestamp_seconds{backend="s3",cluster="prod",result="error"} 0`,
		`snapshotd_repairs_waiting{backend="s3",cluster="prod"} 0`, `snapshotd_snapshots_damaged{cluster="prod"} 0`,
		`snapshotd_copies_damaged{backend="s3",cluster="prod"} 0`, `snapshotd_records_unreadable{cluster="prod"} 0`,
	} {
		has(t, tel, series)
	}
	known(t, tel, "prod", noon.Add(-time.Hour)) // older than what was known of the first
	tel.Forget("prod", "hourly")
	got = scrape(t, tel, "")
	if only(got, "snapshotd_last_success_timestamp") == "" || only(got, "snapshotd_schedule_") != "" {
		t.Errorf("in the end there is\n%s", got)
	}
}
