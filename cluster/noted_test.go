package cluster_test

import (
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// halfSaved saves to "one" at once and to "two" only when it is let, and does something while it waits. It returns what
// the save wrote into the catalog.
func halfSaved(t *testing.T, edit func(*fixture), meanwhile func(*testing.T, *fixture, *snapshot.Record)) (writes []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.mustSave(t) // the stores are known
		f.clock.pass(time.Minute)
		slow := &slowBackend{Backend: f.backends["two"], let: make(chan struct{})}
		f.cfg.Backends[1] = slow
		f.Cluster = f.replica(t)
		f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
			f.clock.pass(time.Minute)
			return s, nil
		}
		if edit != nil {
			edit(f)
		}
		f.catalog.writes = nil
		before := f.records(t)
		var res cluster.SaveResult
		done := make(chan error, 1)
		go func() {
			var err error
			res, err = f.Save(t.Context(), cluster.SaveRequest{})
			done <- err
		}()
		synctest.Wait()
		time.Sleep(time.Second) // of virtual time
		for name, rec := range f.records(t) {
			if before[name] == nil {
				meanwhile(t, f, rec)
			}
		}
		close(slow.let)
		if err := <-done; err != nil || res.Snapshot.State() != snapshot.StateReady || len(res.Warnings) > 0 {
			t.Errorf("Save: %+v, %v", res, err)
		}
		writes = f.catalog.writes
		rec := f.records(t)[res.Snapshot.Name]
		if rec.State() != snapshot.StateReady || len(rec.ReadyOn()) != 2 {
			t.Errorf("record at the end: %v, %+v", rec.State(), rec.Locations())
		}
		f.quiet(t)
	})
	return writes
}

func TestLocationIsReadyInTheRecordWhileOthersAreWritten(t *testing.T) {
	writes := halfSaved(t, nil, func(t *testing.T, _ *fixture, rec *snapshot.Record) {
		one, two := rec.Location("one"), rec.Location("two")
		if rec.State() != snapshot.StateSaving || one.State != snapshot.StateReady || one.Size == 0 || two.State != snapshot.StateSaving {
			t.Errorf("record %v, one %+v, two %+v", rec.State(), one, two)
		}
		if rec.StoredSize != one.Size || rec.Revision == 0 || rec.SHA256 == "" || rec.Duration < time.Minute {
			t.Errorf("the record does not describe the copy: %+v", rec.Snapshot)
		}
	})
	if want := []string{"create", "update", "update"}; !slices.Equal(writes, want) {
		t.Errorf("writes %q, want one for the record and one for each backend: %q", writes, want)
	}
}

func TestSaveGoesOnWhenTheCatalogIsNotToldOfALocation(t *testing.T) {
	halfSaved(t, func(f *fixture) {
		failed := false
		f.catalog.fail = func(op string) error {
			if op == "update" && !failed {
				failed = true
				return errCatalogDown
			}
			return nil
		}
	}, func(t *testing.T, _ *fixture, rec *snapshot.Record) {
		if rec.Location("one").State != snapshot.StateSaving {
			t.Errorf("one: %+v", rec.Location("one"))
		}
	})
}

func TestRecordOfAHalfSavedSnapshotIsSettledByWhatTheBackendsHold(t *testing.T) {
	halfSaved(t, nil, func(t *testing.T, f *fixture, rec *snapshot.Record) {
		f.breakLock(t)
		other := f.replica(t, func(c *cluster.Config) {
			c.Node = "node-2"
			c.Backends = []repository.Backend{f.backends["one"], f.backends["two"]}
		})
		if _, err := other.Reconcile(t.Context(), cluster.ReconcileRequest{}); err != nil {
			t.Fatal(err)
		}
		settled := f.records(t)[rec.Name]
		one, two := settled.Location("one"), settled.Location("two")
		if settled.State() != snapshot.StatePartial || one.State != snapshot.StateReady || two.State != snapshot.StateFailed || two.Size != 0 {
			t.Errorf("settled: %v, one %+v, two %+v", settled.State(), one, two)
		}
		if settled.Duration < time.Minute || settled.StoredSize != one.Size {
			t.Errorf("settled: %+v", settled.Snapshot)
		}
	})
}

func TestCopyThatWasReadyIsNotTakenForATraceOfACrash(t *testing.T) {
	halfSaved(t, nil, func(t *testing.T, f *fixture, rec *snapshot.Record) {
		f.breakLock(t)
		manifest := f.path("one", rec.Name, ".json")
		doc := read(t, manifest)
		if err := os.Remove(manifest); err != nil { // by hand, for a while
			t.Fatal(err)
		}
		f.age(t, "one", rec.Name)
		other := f.replica(t, func(c *cluster.Config) {
			c.Node = "node-2"
			c.Backends = []repository.Backend{f.backends["one"], f.backends["two"]}
		})
		for range 3 {
			f.clock.pass(3 * time.Hour)
			if _, err := other.Reconcile(t.Context(), cluster.ReconcileRequest{}); err != nil {
				t.Fatal(err)
			}
		}
		if len(read(t, f.path("one", rec.Name, ".db.zst"))) == 0 {
			t.Error("the data is gone")
		}
		writeFile(t, manifest, string(doc))
	})
}
