package cluster_test

import (
	"iter"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

var eventNames = map[snapshot.EventType]string{
	snapshot.EventStarted: "started", snapshot.EventLocationDone: "located", snapshot.EventFinished: "finished", snapshot.EventDeleted: "deleted",
}

// told reads n events that the catalog tells, in short.
func told(t *testing.T, next func() (snapshot.Moment, error, bool), n int) (got []string) {
	t.Helper()
	for len(got) < n {
		m, err, ok := next()
		if err != nil || !ok {
			t.Fatalf("after %q: %v", got, err)
		}
		for _, ev := range m.Events {
			text := eventNames[ev.Type] + " " + ev.Backend
			if l := ev.Snapshot.Location(ev.Backend); l != nil {
				text += " " + l.State.String()
			}
			if ev.Type == snapshot.EventFinished {
				text += ev.Snapshot.State().String()
			}
			if ev.Cluster != "default" || ev.Time.IsZero() || (ev.RequestID == "") != (ev.Type == snapshot.EventDeleted) {
				t.Errorf("%s: %+v", text, ev)
			}
			got = append(got, strings.TrimSpace(text))
		}
	}
	return got
}

func TestTheCatalogTellsWhatHappened(t *testing.T) {
	f := newFixture(t)
	next, stop := iter.Pull2(f.Follow(t.Context(), snapshot.Position{}))
	defer stop()
	begin, err, _ := next()
	if err != nil || len(begin.Events) > 0 {
		t.Fatalf("first comes %+v, %v", begin, err)
	}
	want := func(next func() (snapshot.Moment, error, bool), want ...string) {
		t.Helper()
		if got := told(t, next, len(want)); !slices.Equal(got, want) {
			t.Errorf("told\n%q\nwant\n%q", got, want)
		}
	}
	res, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	name := res.Snapshot.Name
	saved := []string{"started", "located one READY", "located two READY", "finished READY"}
	want(next, saved...)

	f.forget(t, name)
	gone := []string{"deleted one READY", "deleted two READY"} // as far as anybody can see
	want(next, gone...)
	f.mustReconcile(t)
	found := []string{"located one READY", "located two READY", "finished READY"}
	want(next, found...)

	for _, suffix := range []string{".db.zst", ".json"} {
		if err := os.Remove(f.path("one", name, suffix)); err != nil {
			t.Fatal(err)
		}
	}
	f.mustReconcile(t)
	want(next, "deleted one READY")
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	want(next, "deleted two DELETING")

	again, stop := iter.Pull2(f.replica(t).Follow(t.Context(), begin.Position)) // on another replica, afterwards
	defer stop()
	want(again, slices.Concat(saved, gone, found, []string{"deleted one READY", "deleted two DELETING"})...)
}

// A replica that does not save itself tells who begins to watch that a save runs, and how far its backends are.
func TestASaveThatRunsIsToldFirstOnEveryReplica(t *testing.T) {
	halfSaved(t, nil, func(t *testing.T, f *fixture, rec *snapshot.Record) {
		other := f.replica(t, func(c *cluster.Config) { c.Node = "node-2" })
		next, stop := iter.Pull2(other.Follow(t.Context(), snapshot.Position{}))
		defer stop()
		m, err, _ := next()
		if err != nil || len(m.Events) != 2 {
			t.Fatalf("first comes %+v, %v", m, err)
		}
		for i, want := range []snapshot.Event{{Type: snapshot.EventStarted}, {Type: snapshot.EventLocationDone, Backend: "one"}} {
			if ev := m.Events[i]; ev.Type != want.Type || ev.Backend != want.Backend || ev.Name != rec.Name {
				t.Errorf("event %d is %+v", i, ev)
			}
		}
	})
}
