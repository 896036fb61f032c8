package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

// moved is the progress of a transfer; the backend is empty for that of etcd.
func moved(cluster, name, backend string, phase snapshot.Phase, done int64) snapshot.Event {
	return snapshot.Event{
		Type: snapshot.EventProgress, Cluster: cluster, Name: name, RequestID: "id", Backend: backend, Phase: phase,
		Done: done, Total: 100,
	}
}

// begun is the start of a save to two backends.
func begun(cluster, name string) snapshot.Event {
	ev := started(cluster, name)
	ev.RequestID = "id"
	ev.Snapshot = snapshot.WithStatus(snapshot.Snapshot{Name: name},
		snapshot.Status{State: snapshot.StateSaving, Locations: []snapshot.Location{
			{Backend: "x", State: snapshot.StateSaving}, {Backend: "y", State: snapshot.StateSaving},
		}})
	return ev
}

// inShort returns the facts of a message about a save.
func inShort(ev *snapshotdv1.WatchResponse) string {
	text := fmt.Sprintf("%s %s %s %s %d/%d", ev.GetType(), ev.GetName(), ev.GetBackend(), ev.GetPhase(),
		ev.GetDoneBytes(), ev.GetTotalBytes())
	for _, l := range ev.GetSnapshot().GetLocations() {
		text += fmt.Sprintf(" %s=%s", l.GetBackend(), l.GetState())
	}
	return strings.Join(strings.Fields(strings.NewReplacer("TYPE_", "", "PHASE_", "", "STATE_", "").Replace(text)), " ")
}

func TestAWatcherThatJoinsIsToldHowFarTheSaveIs(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "a"}, &fakeCluster{name: "b"})
	client := r.client(t)
	done := located("a", "1", "x")
	done.RequestID = "id"
	done.Snapshot = snapshot.WithStatus(snapshot.Snapshot{Name: "1"},
		snapshot.Status{State: snapshot.StateSaving, Locations: []snapshot.Location{
			{Backend: "x", State: snapshot.StateReady}, {Backend: "y", State: snapshot.StateSaving},
		}})
	for _, ev := range []snapshot.Event{
		begun("a", "1"), moved("a", "1", "", snapshot.PhaseReading, 0), moved("a", "1", "x", snapshot.PhaseReading, 50),
		moved("a", "1", "y", snapshot.PhaseReading, 10), moved("a", "1", "", snapshot.PhaseStoring, 100), done,
		moved("a", "1", "y", snapshot.PhaseStoring, 20), located("a", "0", "y"), // which was repaired meanwhile
	} {
		r.events.Observe(t.Context(), ev)
	}
	want := []string{
		"STARTED 1 STORING 100/100 x=READY y=SAVING", "PROGRESS 1 STORING 100/100", "PROGRESS 1 y STORING 20/100",
	}
	for what, req := range map[string]*snapshotdv1.WatchRequest{"all": {}, "the request": {RequestId: "id"},
		"the cluster": {Cluster: "a"}} {
		stream := watch(t, client, req)
		var got []string
		for range want {
			ev, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, inShort(ev))
		}
		if !slices.Equal(got, want) {
			t.Errorf("watch of %s begins with %q, want %q", what, got, want)
		}
	}
	other := watch(t, client, &snapshotdv1.WatchRequest{RequestId: "another"})
	ended := watch(t, client, &snapshotdv1.WatchRequest{Cluster: "b"})
	over := finished("a", "1")
	over.RequestID = "id"
	r.events.Observe(t.Context(), over)
	late := watch(t, client, &snapshotdv1.WatchRequest{})
	for _, c := range []string{"a", "b"} {
		next := begun(c, "2")
		next.RequestID = "another"
		r.events.Observe(t.Context(), next)
	}
	for what, stream := range map[string]interface {
		Recv() (*snapshotdv1.WatchResponse, error)
	}{"of another request": other, "of another cluster": ended, "after the end": late} {
		if ev, err := stream.Recv(); err != nil || inShort(ev) != "STARTED 2 UNSPECIFIED 0/0 x=SAVING y=SAVING" {
			t.Errorf("watch %s begins with %v, %v", what, ev, err)
		}
	}
}
