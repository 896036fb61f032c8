package schedule_test

import (
	"context"
	"strings"
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
	asked chan struct{}
	end   context.CancelFunc
}

func (w wanted) Asked() <-chan struct{} { return w.asked }
func (w wanted) GiveWay()               { w.end() }

// A leader that is asked to give way ends the work that is under way first, and begins no other.
func TestALeaderGivesWayWhenNoWorkIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var done []string
		note := func(what string) { done = append(done, what+" "+time.Since(begin).String()) }
		w := wanted{newMemory().newTerm(), make(chan struct{}), nil}
		save := func(context.Context, cluster.SaveRequest) (cluster.SaveResult, error) {
			time.Sleep(time.Minute)
			note("saved")
			return cluster.SaveResult{Snapshot: saved("x", snapshot.StateReady)}, nil
		}
		stop := start(t, schedule.Config{
			Interval: time.Hour,
			Reconcile: func(ctx context.Context) error {
				time.Sleep(time.Minute)
				note("reconciled")
				return ctx.Err()
			},
			Runs: []schedule.Runs{{Cluster: "default", Save: save, Schedules: []schedule.Schedule{
				{Name: "s", Spec: spec(t, "@every 90s", "")},
			}}},
			Lead: func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
				leading, end := context.WithCancel(ctx)
				w.end = end
				lead(leading, w)
				note("left")
				<-ctx.Done()
				return ctx.Err()
			},
		})
		time.Sleep(2 * time.Minute) // the save has begun
		close(w.asked)
		time.Sleep(time.Hour)
		stop()
		if len(done) != 3 || done[0] != "reconciled 1m0s" || done[1] != "saved 2m30s" || !strings.HasPrefix(done[2], "left 2m3") {
			t.Errorf("it did %q, want that it leaves at once after the save", done)
		}
	})
}
