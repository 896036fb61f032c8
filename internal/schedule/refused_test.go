package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/snapshot"
)

// refuse lets a catalog take no writes; nil lets it take them again.
func (m *memory) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = err
}

// An etcd without space has the catalog in it, and is to be saved all the more.
func TestACatalogWithoutSpaceKeepsNoRunFromItsSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		m := newMemory()
		m.refuse(errors.New("etcd has no space")) // before the schedule is known
		time.AfterFunc(3*time.Hour+time.Minute, func() { m.refuse(nil) })
		var ended []string
		r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@hourly", "")})
		r.Ran = func(_ context.Context, _ string, due time.Time, res schedule.Result) {
			ended = append(ended, due.Format("15:04 ")+string(res))
		}
		leadFor(t, m, r, 3*time.Hour+2*time.Minute)
		want(t, s.times(), "01:00:00", "02:00:00", "03:00:00")
		if want := []string{"01:00 success", "02:00 success", "03:00 success"}; !slices.Equal(ended, want) {
			t.Errorf("ended %q, want %q", ended, want)
		}
		if last := m.last["a"].Format("15:04"); last != "03:00" {
			t.Errorf("remembered that the last run was due at %s", last)
		}
		leadFor(t, m, r, 30*time.Minute)
		want(t, s.times(), "01:00:00", "02:00:00", "03:00:00")
	})
}

// A save that left no record is made anew by the same request: asking for its outcome is an attempt.
func TestFailuresWithoutARecordAreRepeatedWithTheirPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := saves{answer: func(context.Context, int) (snapshot.State, error) {
			return snapshot.StateFailed, snapshot.ReasonInternal.New("save") // the fake keeps no outcome of these
		}}
		m := newMemory()
		m.refuse(errors.New("etcd has no space"))
		leadFor(t, m, runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@hourly", "")}), time.Hour+2*time.Minute)
		want(t, s.times(), "01:00:00", "01:00:05", "01:00:15", "01:00:35", "01:01:15")
	})
}

// The lease of a leader is renewed while etcd refuses all reads: the alarm CORRUPT is up, or the user's role was taken
// away.
func TestACatalogThatDoesNotSayWhoLeadsIsNotWaitedForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		m := newMemory()
		time.AfterFunc(30*time.Minute, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.down = errors.New("etcd has found its members to differ")
		})
		leadFor(t, m, runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@hourly", "")}), 2*time.Hour+30*time.Minute)
		want(t, s.times(), "01:01:00", "02:01:00")
	})
}

// What has failed under a leader before is neither tried nor told again by the next one.
func TestFailuresUnderAnotherLeaderDoNotDelayTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := saves{answer: func(context.Context, int) (snapshot.State, error) {
			return snapshot.StateFailed, snapshot.ReasonBackendUnavailable.New("save")
		}}
		m := newMemory()
		r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@daily", "")})
		m.last["a"] = time.Now().Add(-time.Hour) // due at midnight, which is now
		leadFor(t, m, r, time.Hour)
		failed := len(s.ids)
		if failed < 5 {
			t.Fatalf("only %d attempts", failed)
		}
		s.answer = nil // its cause is ended
		begun := time.Now()
		leadFor(t, m, r, time.Hour)
		if len(s.ids) != failed+1 || !s.at[failed].Equal(begun) {
			t.Fatalf("attempts at %q, want one more at once", s.times())
		}
		if got, want := s.ids[failed], fmt.Sprintf("%s/%d", s.ids[0], failed+1); got != want {
			t.Errorf("the request of the new attempt is %s, want %s", got, want)
		}
	})
}

// A new schedule of a cluster without a snapshot takes it at once, whatever its jitter; the next run has it.
func TestTheFirstSnapshotDoesNotWaitForTheJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@every 24h", ""), Jitter: 12 * time.Hour})
		r.None = func(context.Context) (bool, error) { return true, nil }
		leadFor(t, newMemory(), r, 40*time.Hour)
		if got := s.times(); len(got) != 2 || got[0] != "00:00:00" || got[1] == "00:00:00" {
			t.Errorf("saved at %q, want at once, and then with the jitter", got)
		}
	})
}

// The metric of the next run is when it begins: by it an alert tells that a run is late, and not that it has a jitter.
func TestTheNextRunIsToldWithItsJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s saves
		var told []time.Time
		r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "0 0 * * *", ""), Jitter: 12 * time.Hour})
		r.Due = func(_ context.Context, _ string, begins time.Time) { told = append(told, begins) }
		leadFor(t, newMemory(), r, 96*time.Hour)
		if len(s.at) < 3 || len(told) <= len(s.at) {
			t.Fatalf("runs at %q, told %v", s.times(), told)
		}
		for i, at := range s.at {
			if !told[i].Equal(at) {
				t.Errorf("run %d began at %v, and was told for %v", i, at, told[i])
			}
		}
	})
}
