package cluster_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestARequestThatIsDisownedIsNew(t *testing.T) {
	f := newFixture(t)
	save := func(schedule, id string) cluster.SaveResult {
		t.Helper()
		res, err := f.Save(t.Context(), cluster.SaveRequest{
			RequestID: id, Schedule: schedule, Trigger: snapshot.TriggerScheduled,
		})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	asked := []struct{ schedule, id string }{{"a", "to come"}, {"a", "past"}, {"b", "to come, of another"}}
	names := map[string]bool{}
	for _, q := range asked {
		names[save(q.schedule, q.id).Snapshot.Name] = true
	}
	err := f.Disown(t.Context(), "a", func(id string) bool { return strings.HasPrefix(id, "to come") })
	if err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t) // the manifests still name the requests
	for _, q := range asked {
		fresh := q.id == "to come"
		if res := save(q.schedule, q.id); res.Repeated == fresh || names[res.Snapshot.Name] == fresh {
			t.Errorf("%q of %s is answered with %s (repeated: %v)", q.id, q.schedule, res.Snapshot.Name, res.Repeated)
		}
	}
	if n := len(f.records(t)); n != len(asked)+1 {
		t.Errorf("there are %d snapshots, want %d", n, len(asked)+1)
	}
}

// A catalog that is made anew has no requests of runs that are still to come, for which a clock that was ahead saved.
func TestAFoundSnapshotAnswersNoRunToCome(t *testing.T) {
	made := map[string]func(t *testing.T) *fixture{
		"backends": func(t *testing.T) *fixture { return newFixture(t) },
		"fallback": func(t *testing.T) *fixture { f, _ := keeper(t); return f },
	}
	for place, made := range made {
		for name, tc := range map[string]struct {
			schedule string
			ahead    time.Duration
			fresh    bool
		}{
			"a run to come":         {"a", 3 * time.Hour, true},
			"a clock a moment off":  {"a", 30 * time.Second, false},
			"a caller's own":        {"", 3 * time.Hour, false},
			"a run that has passed": {"a", 0, false},
		} {
			t.Run(place+": "+name, func(t *testing.T) {
				f := made(t)
				req := cluster.SaveRequest{RequestID: "id", Schedule: tc.schedule, Trigger: snapshot.TriggerScheduled}
				if tc.schedule == "" {
					req.Trigger = snapshot.TriggerManual
				}
				f.clock.pass(tc.ahead)
				first, _ := f.Save(t.Context(), req)
				f.clock.pass(-tc.ahead)
				f.clock.pass(2 * time.Second)
				f.forget(t, slices.Collect(maps.Keys(f.records(t)))...)
				if place == "fallback" {
					f.deliver(t)
				} else {
					f.mustReconcile(t)
				}
				if rec := f.records(t)[first.Snapshot.Name]; rec == nil {
					t.Fatal("it was not found")
				}
				again, _ := f.Save(t.Context(), req)
				if fresh := again.Snapshot.Name != first.Snapshot.Name; fresh != tc.fresh || again.Repeated == fresh {
					t.Errorf("it is answered with %s (repeated: %v), and was with %s", again.Snapshot.Name, again.Repeated,
						first.Snapshot.Name)
				}
			})
		}
	}
}
