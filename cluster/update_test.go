package cluster_test

import (
	"context"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

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

// A pin that is set while a backend gets its copy must be in the manifest there as well: it would be lost with the
// catalog, and the older manifest be taken for one that was put back.
func TestAPinThatIsSetDuringARepairReachesTheNewCopy(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	f.clock.pass(time.Hour)
	f.backends["one"].get = func(key string) error {
		if !strings.HasSuffix(key, ".db.zst") {
			return nil
		}
		f.backends["one"].get = nil
		_, err := f.Update(t.Context(), cluster.UpdateRequest{Name: name, Pinned: new(true)})
		return err
	}
	f.mustRepair(t)
	if f.backends["one"].get != nil {
		t.Fatal("nothing was repaired")
	}
	m, err := place(f.backends["two"], f.cfg.Trust).ReadManifest(t.Context(), name)
	if err != nil || !m.Record.Pinned {
		t.Errorf("on two: %+v, %v", m, err)
	}
	req := cluster.VerifyRequest{Name: name, Backend: "two", Level: snapshot.LevelChecksum}
	if rec, err := f.Verify(t.Context(), req); err != nil || !rec.Verification.Passed || len(rec.ReadyOn()) != 2 {
		t.Errorf("Verify: %+v, %v", rec, err)
	}
}

// While the source does not have the pin yet, the copy is not called READY.
func TestARepairDoesNotEndBeforeItsSourceHasThePin(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	f.clock.pass(time.Hour)
	pin := cluster.UpdateRequest{Name: name, Pinned: new(true)}
	f.backends["one"].put = func(context.Context, string, io.Reader) error { return errBroken }
	f.backends["one"].get = func(key string) error {
		if strings.HasSuffix(key, ".db.zst") {
			f.backends["one"].get = nil
			_, _ = f.Update(t.Context(), pin)
		}
		return nil
	}
	f.mustRepair(t)
	if rec := f.records(t)[name]; !rec.Pinned || len(rec.ReadyOn()) != 1 {
		t.Errorf("before: pinned %t, READY on %q", rec.Pinned, rec.ReadyOn())
	}
	f.backends["one"].put = nil
	if _, err := f.Update(t.Context(), pin); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(time.Hour)
	f.mustRepair(t)
	f.twins(t, name)
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
