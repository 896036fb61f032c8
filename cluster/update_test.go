package cluster_test

import (
	"context"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestUpdateOutlivesTheCatalog(t *testing.T) {
	f := newFixture(t, keepLast(1))
	names := f.scheduled(t, 3)
	labels := map[string]string{"reason": "before the upgrade"}
	rec, err := f.Update(t.Context(), cluster.UpdateRequest{Name: names[2], Labels: labels, Pinned: new(true)})
	if err != nil || !rec.Pinned || !maps.Equal(rec.Labels, labels) {
		t.Fatalf("%+v, %v", rec, err)
	}
	f.forget(t, names...)
	f.mustReconcile(t)
	found := f.records(t)[names[2]]
	if !found.Pinned || !maps.Equal(found.Labels, labels) || found.State() != snapshot.StateReady {
		t.Errorf("made anew: %+v", found.Snapshot)
	}
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := staying(t, decisions, "one"); len(got) != 2 || got[1] != names[2] {
		t.Errorf("%q stay, want the newest and the pinned one", got)
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: names[2]}); snapshot.ReasonOf(err) != snapshot.ReasonPinned {
		t.Errorf("delete: %v", err)
	}
	if rec, err = f.Update(t.Context(), cluster.UpdateRequest{Name: names[2], Pinned: new(false)}); err != nil || rec.Pinned || !maps.Equal(rec.Labels, labels) {
		t.Errorf("unpinned: %+v, %v", rec, err)
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: names[2]}); err != nil {
		t.Errorf("delete: %v", err)
	}
}

func TestUpdateRefuses(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	for what, tc := range map[string]struct {
		req  cluster.UpdateRequest
		want snapshot.Reason
	}{
		"another etag":   {cluster.UpdateRequest{Name: s.Name, Etag: "1", Pinned: new(true)}, snapshot.ReasonEtagMismatch},
		"no such name":   {cluster.UpdateRequest{Name: "x", Pinned: new(true)}, snapshot.ReasonSnapshotNotFound},
		"an empty label": {cluster.UpdateRequest{Name: s.Name, Labels: map[string]string{"": "x"}}, snapshot.ReasonInvalidArgument},
	} {
		if _, err := f.Update(t.Context(), tc.req); snapshot.ReasonOf(err) != tc.want {
			t.Errorf("%s: %v, want %s", what, err, tc.want)
		}
	}
	if rec := f.records(t)[s.Name]; rec.Etag != s.Etag {
		t.Error("the record was changed")
	}
}

// A manifest that cannot be written is said, and written by the same call again.
func TestUpdateSaysWhichManifestIsOld(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	down := &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Backend: "two", Message: "it is down"}
	f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
		if strings.HasSuffix(key, ".json") {
			return down
		}
		return nil
	}
	req := cluster.UpdateRequest{Name: s.Name, Pinned: new(true)}
	rec, err := f.Update(t.Context(), req)
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable || rec == nil || !rec.Pinned {
		t.Fatalf("%+v, %v", rec, err)
	}
	f.backends["two"].put = nil
	if _, err := f.Update(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	f.forget(t, s.Name)
	reports := f.reconcile(t, cluster.ReconcileRequest{Backends: []string{"two"}})
	if rec := f.records(t)[s.Name]; reports["two"].Err != nil || !rec.Pinned {
		t.Errorf("made anew from two: %+v", rec)
	}
}
