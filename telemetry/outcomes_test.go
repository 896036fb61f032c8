package telemetry_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/telemetry"
)

// has reports whether the scrape has a sample.
func has(t *testing.T, tel *telemetry.Telemetry, sample string) {
	t.Helper()
	if text := scrape(t, tel, ""); !strings.Contains(text, "\n"+sample+"\n") {
		name, _, _ := strings.Cut(sample, "{")
		t.Errorf("the scrape lacks %s; it has\n%s", sample, only(text, name))
	}
}

// An alert that compares the two times fires from the failed save on until another one, or a repair, has mended it.
func TestTheLastSaveOfABackendIsKnownByItsResult(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddCluster(t.Context(), "prod", []string{"local", "s3"})
	see := func(typ snapshot.EventType, backend string, unix int64, s3 snapshot.State) {
		tel.Observer().Observe(t.Context(), snapshot.Event{
			Type: typ, Cluster: "prod", Backend: backend,
			Snapshot: saved(snapshot.Snapshot{Cluster: "prod", CreateTime: time.Unix(unix, 0)}, s3),
		})
	}
	want := func(success, failure string) {
		t.Helper()
		has(t, tel, `snapshotd_last_save_timestamp_seconds{backend="s3",cluster="prod",result="success"} `+success)
		has(t, tel, `snapshotd_last_save_timestamp_seconds{backend="s3",cluster="prod",result="error"} `+failure)
	}
	want("0", "0")
	see(snapshot.EventFinished, "", 1000, snapshot.StateReady)
	want("1000", "0")
	see(snapshot.EventFinished, "", 2000, snapshot.StateFailed)
	want("1000", "2000")
	has(t, tel, `snapshotd_last_save_timestamp_seconds{backend="local",cluster="prod",result="success"} 2000`)
	see(snapshot.EventLocationDone, "s3", 2000, snapshot.StateFailed)
	want("1000", "2000")
	see(snapshot.EventLocationDone, "s3", 2000, snapshot.StateReady) // the repair
	want("2000", "2000")
	tel.LastSave(saved(snapshot.Snapshot{Cluster: "prod", CreateTime: time.Unix(500, 0)}, snapshot.StateFailed))
	want("2000", "2000")
	tel.LastSave(saved(snapshot.Snapshot{Cluster: "prod", CreateTime: time.Unix(3000, 0)}, snapshot.StateFailed)) // of another replica
	want("2000", "3000")
	tel.LastSave(saved(snapshot.Snapshot{
		Cluster: "prod", CreateTime: time.Unix(4000, 0), Trigger: snapshot.TriggerAdopted,
	}, snapshot.StateReady)) // no save of ours
	want("2000", "3000")
	tel.AddCluster(t.Context(), "prod", []string{"local"}) // the configuration has changed
	if text := scrape(t, tel, ""); strings.Contains(text, `last_save_timestamp_seconds{backend="s3"`) {
		t.Error("a backend that is not configured any more is still there")
	}
	has(t, tel, `snapshotd_last_save_timestamp_seconds{backend="local",cluster="prod",result="success"} 3000`)
}

func TestASaveInTheFutureDoesNotHideTheNext(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddCluster(t.Context(), "prod", []string{"s3"})
	for _, at := range []int64{time.Now().Add(1000 * time.Hour).Unix(), 2000} {
		tel.LastSave(saved(snapshot.Snapshot{Cluster: "prod", CreateTime: time.Unix(at, 0)}, snapshot.StateReady))
	}
	has(t, tel, `snapshotd_last_save_timestamp_seconds{backend="s3",cluster="prod",result="success"} 2000`)
}

func TestTheLastReconcileOfABackendIsKnownByItsResult(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddCluster(t.Context(), "prod", []string{"local", "s3"})
	for unix, err := range map[int64]error{1000: errors.New("connection refused"), 2000: nil} {
		tel.Observer().Observe(t.Context(), snapshot.Event{
			Type: snapshot.EventReconciled, Cluster: "prod", Time: time.Unix(unix, 0), Backends: map[string]error{"s3": err},
		})
	}
	has(t, tel, `snapshotd_last_reconcile_timestamp_seconds{backend="s3",cluster="prod",result="error"} 1000`)
	has(t, tel, `snapshotd_last_reconcile_timestamp_seconds{backend="s3",cluster="prod",result="success"} 2000`)
	has(t, tel, `snapshotd_last_reconcile_timestamp_seconds{backend="local",cluster="prod",result="success"} 0`)
}

// Verdicts are seen at once, and the next reconcile counts all that the catalog has.
func TestDamagedSnapshotsAreKnownByTheLeader(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddCluster(t.Context(), "prod", []string{"local"})
	verified := func(name string, passed bool) {
		tel.Observer().Observe(t.Context(), snapshot.Event{
			Type: snapshot.EventVerified, Cluster: "prod", Name: name, Verification: &snapshot.Verification{Passed: passed},
		})
	}
	want := func(n string) {
		t.Helper()
		has(t, tel, `snapshotd_snapshots_damaged{cluster="prod"} `+n)
	}
	verified("old", false)
	want("0")
	tel.Leader(t.Context(), "prod", true)
	want("0") // its verdict may be outdated, and the first reconcile of the term counts it
	verified("a", false)
	want("1")
	verified("b", false)
	verified("b", false)
	want("2")
	verified("a", true)
	want("1")
	counted := map[string][]string{"b": nil, "c": nil, "d": nil}
	tel.Observer().Observe(t.Context(), snapshot.Event{Type: snapshot.EventCounted, Cluster: "prod", Damaged: counted})
	want("3")
	verified("c", true)
	want("2")
	deleted := func(name, backend string, left ...snapshot.Location) {
		tel.Observer().Observe(t.Context(), snapshot.Event{
			Type: snapshot.EventDeleted, Cluster: "prod", Name: name, Backend: backend,
			Snapshot: snapshot.WithStatus(snapshot.Snapshot{Name: name}, snapshot.Status{Locations: left}),
		})
	}
	local, s3 := snapshot.Location{Backend: "local", Size: 1}, snapshot.Location{Backend: "s3", Size: 1}
	deleted("d", "local", local, s3)
	want("2") // the other backend has it
	deleted("d", "s3", s3)
	want("1")
	deleted("b", "s3", snapshot.Location{Backend: "local"}, s3) // it never reached the other one
	want("0")
	verified("b", false)
	tel.Leader(t.Context(), "prod", false)
	want("0")
	tel.Leader(t.Context(), "prod", true)
	want("0")
}

// An alert on the age of the last proof could never end where no drill of the service can restore a snapshot.
func TestThereIsNoLastProofWhereTheServiceCannotDecrypt(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	proven := func(revision, unix int64) {
		ev := snapshot.Event{Type: snapshot.EventProven, Cluster: "prod", Revision: revision}
		if unix > 0 {
			ev.ProvenTime = time.Unix(unix, 0)
		}
		tel.Observer().Observe(t.Context(), ev)
	}
	none := func(when string) {
		t.Helper()
		if got := only(scrape(t, tel, ""), "snapshotd_last_proven_restore"); got != "" {
			t.Errorf("%s, the scrape has\n%s", when, got)
		}
	}
	tel.AddCluster(t.Context(), "prod", []string{"local"})
	none("before the first reconcile")
	proven(0, 0)
	has(t, tel, `snapshotd_last_proven_restore_timestamp_seconds{cluster="prod"} 0`)
	proven(42, 1000)
	tel.AddCluster(t.Context(), "prod", []string{"local"}) // the configuration has changed
	has(t, tel, `snapshotd_last_proven_restore_timestamp_seconds{cluster="prod"} 1000`)
	has(t, tel, `snapshotd_last_proven_restore_revision{cluster="prod"} 42`)
	tel.AddCluster(t.Context(), "prod", []string{"local"})
	tel.Unprovable("prod") // the identity is gone from the configuration
	none("without an identity")
	proven(0, 0)
	none("after a reconcile without an identity")
	tel.AddCluster(t.Context(), "prod", []string{"local"})
	has(t, tel, `snapshotd_last_proven_restore_timestamp_seconds{cluster="prod"} 0`)
}

// A clock that was ahead has dated it.
func TestAProofInTheFutureIsNone(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddCluster(t.Context(), "prod", []string{"s3"})
	for _, proven := range []struct {
		at   time.Time
		want string
	}{{time.Unix(2000, 0), "2000"}, {time.Now().Add(1000 * time.Hour), "0"}, {time.Unix(1000, 0), "1000"}} {
		tel.Observer().Observe(t.Context(), snapshot.Event{Type: snapshot.EventProven, Cluster: "prod", ProvenTime: proven.at})
		has(t, tel, `snapshotd_last_proven_restore_timestamp_seconds{cluster="prod"} `+proven.want)
	}
}

// Whoever watches the configuration sees that it was not applied, from the start on.
func TestTheLastReloadIsKnown(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	has(t, tel, `snapshotd_config_last_reload_successful 1`)
	tel.Reloaded(t.Context(), false)
	has(t, tel, `snapshotd_config_last_reload_successful 0`)
	tel.Reloaded(t.Context(), true)
	has(t, tel, `snapshotd_config_last_reload_successful 1`)
}

func TestTheLastFailureOfAScheduleIsKnown(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddCluster(t.Context(), "prod", []string{"local"})
	tel.AddSchedule(t.Context(), "prod", "nightly", "success", "failed")
	has(t, tel, `snapshotd_schedule_last_failure_timestamp_seconds{cluster="prod",schedule="nightly"} 0`)
	tel.Ran(t.Context(), "prod", "nightly", "success", time.Unix(1000, 0), true)
	tel.Ran(t.Context(), "prod", "nightly", "failed", time.Unix(2000, 0), false)
	has(t, tel, `snapshotd_schedule_last_run_timestamp_seconds{cluster="prod",schedule="nightly"} 1000`)
	has(t, tel, `snapshotd_schedule_last_failure_timestamp_seconds{cluster="prod",schedule="nightly"} 2000`)
}

// The catalog knows of the runs of other replicas, and of those before a restart.
func TestTheLastRunOfAScheduleIsThatOfAllReplicas(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	want := func(unix string) {
		t.Helper()
		has(t, tel, `snapshotd_schedule_last_run_timestamp_seconds{cluster="prod",schedule="nightly"} `+unix)
	}
	last := func(due time.Time) { tel.LastRun(t.Context(), "prod", "nightly", due) }
	tel.AddSchedule(t.Context(), "prod", "nightly", "success", "failed")
	last(time.Time{})
	want("0")
	last(time.Now().Add(1000 * time.Hour)) // by a wrong clock
	want("0")
	last(time.Unix(2000, 0))
	want("2000")
	tel.Ran(t.Context(), "prod", "nightly", "success", time.Unix(3000, 0), true)
	want("3000")
	last(time.Unix(2000, 0)) // it was read before that run ended
	want("3000")
	tel.AddSchedule(t.Context(), "prod", "nightly", "success", "failed")
	want("0")
}

func TestAFailureEndsWhereNoSaveGoesAnyMore(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddCluster(t.Context(), "prod", []string{"local", "s3"})
	want := func(failure string) {
		t.Helper()
		has(t, tel, `snapshotd_last_save_timestamp_seconds{backend="s3",cluster="prod",result="success"} 1000`)
		has(t, tel, `snapshotd_last_save_timestamp_seconds{backend="s3",cluster="prod",result="error"} `+failure)
	}
	elsewhere := func(unix int64) *snapshot.Snapshot {
		return snapshot.WithStatus(snapshot.Snapshot{Cluster: "prod", CreateTime: time.Unix(unix, 0)},
			snapshot.Status{Locations: []snapshot.Location{{Backend: "local", State: snapshot.StateReady}}})
	}
	tel.LastSave(saved(snapshot.Snapshot{Cluster: "prod", CreateTime: time.Unix(1000, 0)}, snapshot.StateReady))
	tel.LastSave(saved(snapshot.Snapshot{Cluster: "prod", CreateTime: time.Unix(2000, 0)}, snapshot.StateFailed), "s3")
	want("2000") // it was the last one, and asked for there
	tel.LastSave(elsewhere(1500), "s3")
	want("2000")
	tel.LastSave(elsewhere(3000))
	want("2000") // a schedule saves there
	tel.LastSave(elsewhere(3000), "s3")
	want("0")
}

// An alert has to name the backend, also one that is a directory of another node.
func TestDamagedCopiesAndRecordsAreKnownByTheLeader(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	tel.AddCluster(t.Context(), "prod", []string{"local", "s3"})
	want := func(local, s3, unread string) {
		t.Helper()
		has(t, tel, `snapshotd_copies_damaged{backend="local",cluster="prod"} `+local)
		has(t, tel, `snapshotd_copies_damaged{backend="s3",cluster="prod"} `+s3)
		has(t, tel, `snapshotd_records_unreadable{cluster="prod"} `+unread)
	}
	want("0", "0", "0")
	tel.Leader(t.Context(), "prod", true)
	tel.Observer().Observe(t.Context(), snapshot.Event{Type: snapshot.EventCounted, Cluster: "prod", Unread: 3,
		Damaged: map[string][]string{"a": {"s3"}, "b": {"local@b", "local", "s3"}, "c": nil}})
	want("1", "2", "3")
	has(t, tel, `snapshotd_snapshots_damaged{cluster="prod"} 3`)
	has(t, tel, `snapshotd_copies_damaged{backend="local@b",cluster="prod"} 1`)
	tel.Observer().Observe(t.Context(), snapshot.Event{Type: snapshot.EventVerified, Cluster: "prod", Name: "d",
		Verification: &snapshot.Verification{}, Damaged: map[string][]string{"d": {"local"}}})
	want("2", "2", "3")
	tel.Leader(t.Context(), "prod", false)
	want("0", "0", "0")
}
