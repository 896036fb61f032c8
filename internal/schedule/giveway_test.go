package schedule_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/snapshot"
)

// wanted is a term that another replica asks for.
type wanted struct {
	*term
	end context.CancelFunc
}

func (wanted) Asked(context.Context) (bool, error) { return true, nil }

func (w wanted) GiveWay(context.Context) error {
	w.end()
	return nil
}

// A leader that is asked to give way does so before a reconcile, and not while a save is under way.
func TestALeaderGivesWayWhenNoWorkIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var mu sync.Mutex
		var done []string
		note := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			done = append(done, what+" after "+time.Since(begin).Round(time.Hour).String())
		}
		save := func(context.Context, cluster.SaveRequest) (cluster.SaveResult, error) {
			note("save begins")
			time.Sleep(3 * time.Hour)
			note("save ends")
			return cluster.SaveResult{Snapshot: saved("x", snapshot.StateReady)}, nil
		}
		stop := start(t, schedule.Config{
			Interval:  every(4 * time.Hour),
			Reconcile: func(context.Context) error { note("reconcile"); return nil },
			Runs: []schedule.Runs{{Save: save, Schedules: []schedule.Schedule{
				{Name: "s", Spec: spec(t, "0 2,14 * * *", "")},
			}}},
			Lead: func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
				leading, end := context.WithCancel(ctx)
				lead(leading, wanted{newMemory().newTerm(), end})
				note("leading no more")
				<-ctx.Done()
				return ctx.Err()
			},
		})
		time.Sleep(20 * time.Hour)
		stop()
		want := []string{
			"reconcile after 0s", "save begins after 2h0m0s", "reconcile after 4h0m0s", "save ends after 5h0m0s",
			"leading no more after 8h0m0s",
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(done, want) {
			t.Errorf("it did %q, want %q", done, want)
		}
	})
}
