package cluster_test

import (
	"strings"
	"testing"

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
