package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/snapshot"
)

// wrongly is a catalog with snapshots of a clock that was ahead: their requests are answered without a save.
type wrongly struct {
	saves
	requests map[string]bool
	down     error
}

func (w *wrongly) save(ctx context.Context, req cluster.SaveRequest) (cluster.SaveResult, error) {
	if w.requests[req.RequestID] {
		return cluster.SaveResult{Snapshot: saved(req.RequestID, snapshot.StateReady), Repeated: true}, nil
	}
	return w.saves.save(ctx, req)
}

func (w *wrongly) disown(_ context.Context, _ string, stray func(string) bool) error {
	for id := range w.requests {
		if w.down == nil && stray(id) {
			delete(w.requests, id)
		}
	}
	return w.down
}

// ahead is led first by a leader whose clock is two hours ahead, and then by the leaders of do.
func ahead(t *testing.T, by time.Duration, do func(t *testing.T, m *memory, w *wrongly, r schedule.Runs)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		hour := func(h time.Duration) string {
			return fmt.Sprintf("schedule/a/%d", time.Now().Add(h*time.Hour).Unix())
		}
		m := newMemory()
		m.last["a"] = time.Now().Add(by)
		w := &wrongly{requests: map[string]bool{hour(0): true, hour(1): true, hour(2) + "/2": true, hour(2): true}}
		r := runs(nil, schedule.Schedule{Name: "a", Spec: spec(t, "@hourly", "")})
		r.Save, r.Disown = w.save, w.disown
		time.Sleep(time.Minute)
		do(t, m, w, r)
	})
}

func TestSnapshotsOfAClockThatWasAheadAnswerNoRunToCome(t *testing.T) {
	ahead(t, 2*time.Hour, func(t *testing.T, m *memory, w *wrongly, r schedule.Runs) {
		leadFor(t, m, r, 10*time.Minute)
		leadFor(t, m, r, 2*time.Hour) // the next leader knows nothing of the clock
		want(t, w.times(), "01:00:00", "02:00:00")
		if len(w.requests) != 1 {
			t.Errorf("%d requests of before are left, want that of the run that has been due", len(w.requests))
		}
	})
}

// The wrong time stays in the catalog until the requests are free: the next leader sees it as well.
func TestALeaderThatCannotFreeTheRequestsLeavesThatToTheNext(t *testing.T) {
	ahead(t, 2*time.Hour, func(t *testing.T, m *memory, w *wrongly, r schedule.Runs) {
		w.down = errors.New("etcd has no leader")
		leadFor(t, m, r, 10*time.Minute)
		w.down = nil
		leadFor(t, m, r, 2*time.Hour)
		want(t, w.times(), "01:00:00", "02:00:00")
	})
}

// While the requests cannot be freed, for days in an etcd without space, their snapshots are not the outcome of runs.
func TestRunsAreSavedWhileTheRequestsOfAClockThatWasAheadAreNotFree(t *testing.T) {
	ahead(t, 3*time.Hour, func(t *testing.T, m *memory, w *wrongly, r schedule.Runs) {
		w.down = errors.New("etcd has no space")
		leadFor(t, m, r, 2*time.Hour)
		want(t, w.times(), "01:00:00", "02:00:00")
	})
}

// A clock that is set back by a moment has made the snapshots of the moment: they are the outcome of their runs.
func TestAClockThatIsSetBackByAMomentRepeatsNoRun(t *testing.T) {
	ahead(t, time.Hour, func(t *testing.T, m *memory, w *wrongly, r schedule.Runs) {
		time.Sleep(59*time.Minute - 2*time.Second)
		leadFor(t, m, r, 10*time.Minute)
		want(t, w.times())
	})
}
