package cluster_test

import (
	"context"
	"io"
	"iter"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// takenForDead lets a save lose its lock while the data on "two" is durable and its manifest is not, does something,
// and lets it go on.
func takenForDead(t *testing.T, meanwhile func(f *fixture, name string)) (*fixture, cluster.SaveResult, error) {
	t.Helper()
	f := newFixture(t)
	f.mustSave(t) // the stores are known
	other := f.replica(t)
	f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
		name, ok := strings.CutSuffix(strings.TrimPrefix(key, "default/"), ".json")
		if !ok {
			return nil
		}
		f.backends["two"].put = nil
		f.breakLock(t)
		f.Cluster = other
		meanwhile(f, name)
		return nil
	}
	paused := f.Cluster
	res, err := paused.Save(t.Context(), cluster.SaveRequest{})
	return f, res, err
}

// breakLock ends the leases of all locks.
func (f *fixture) breakLock(t *testing.T) {
	t.Helper()
	f.catalog.ExpireLock()
}

// age makes the files of a snapshot on a backend look old.
func (f *fixture) age(t *testing.T, backend, name string) {
	t.Helper()
	old := time.Now().Add(-3 * time.Hour)
	if err := os.Chtimes(f.path(backend, name, ".db.zst"), old, old); err != nil {
		t.Fatal(err)
	}
}

func TestReconcileDoesNotSweepWhatItHasOnlyJustTakenForDead(t *testing.T) {
	f, res, err := takenForDead(t, func(f *fixture, name string) {
		f.age(t, "two", name)
		f.mustReconcile(t)
	})
	if err != nil || res.Snapshot.State() != snapshot.StateReady {
		t.Fatalf("Save: %v", err)
	}
	f.agrees(t) // before another reconcile makes the catalog agree
	f.mustReconcile(t)
	f.agrees(t)
}

func TestSaveThatWakesUpAfterItsDataWasSweptSaysSo(t *testing.T) {
	f, res, err := takenForDead(t, func(f *fixture, name string) {
		f.age(t, "two", name)
		f.mustReconcile(t) // settles
		if r := f.mustReconcile(t); r["two"].Swept != 1 {
			t.Errorf("two: %+v", r["two"])
		}
	})
	if snapshot.ReasonOf(err) != snapshot.ReasonInterrupted || res.Snapshot.State() != snapshot.StatePartial || res.Snapshot.Location("two").State != snapshot.StateFailed {
		t.Fatalf("Save: %+v, %v", res.Snapshot, err)
	}
	if rec := f.records(t)[res.Snapshot.Name]; rec.State() != snapshot.StatePartial {
		t.Errorf("record %+v", rec)
	}
	f.mustReconcile(t)
	f.agrees(t)
}

func TestReconcileDeletesNothingWhenTheRecordChangedMeanwhile(t *testing.T) {
	f := newFixture(t)
	f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
		if strings.HasPrefix(key, "default/") && strings.HasSuffix(key, ".json") {
			return errBroken
		}
		return nil
	}
	res, _ := f.Save(t.Context(), cluster.SaveRequest{})
	name := res.Snapshot.Name
	writeFile(t, f.path("two", name, ".db.zst"), string(read(t, f.path("one", name, ".db.zst")))) // its removal had failed, too
	f.age(t, "two", name)
	f.clock.pass(2 * time.Hour)
	f.catalog.fail = func(op string) error {
		if op != "update" {
			return nil
		}
		f.catalog.fail = nil
		rec, err := f.catalog.Catalog.Get(t.Context(), name)
		if err == nil {
			err = f.catalog.Catalog.Update(t.Context(), rec)
		}
		return err
	}
	if r := f.mustReconcile(t); r["two"].Swept != 0 {
		t.Errorf("two: %+v", r["two"])
	}
	if _, err := os.Stat(f.path("two", name, ".db.zst")); err != nil {
		t.Error(err)
	}
	if r := f.mustReconcile(t); r["two"].Swept != 1 {
		t.Errorf("two: %+v", r["two"])
	}
}

func TestPartialSaveWithoutTheCatalogIsNotFoundAgainAsReady(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	f.backends["two"].put = func(context.Context, string, io.Reader) error { return errBroken }
	f.catalog.fail = func(string) error { return errCatalogDown }
	res, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err == nil || res.Snapshot.State() != snapshot.StatePartial {
		t.Fatalf("Save: %+v, %v", res.Snapshot, err)
	}
	f.catalog.fail, f.backends["two"].put = nil, nil
	f.mustReconcile(t)
	if rec := f.records(t)[res.Snapshot.Name]; rec == nil || rec.State() != snapshot.StatePartial || rec.Location("two").State != snapshot.StateFailed {
		t.Errorf("record %+v", rec)
	}
	if _, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"}); err == nil {
		t.Error("the repeated request succeeded")
	}
	f.quiet(t)
}

// early is a backend that was listed before the objects of a snapshot were there.
type early struct {
	repository.Backend
	name string
}

func (b early) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		for o, err := range b.Backend.List(ctx, prefix) {
			if err == nil && strings.Contains(o.Key, b.name) {
				continue
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// A reconcile has listed one backend before a save without the catalog was done there, and the other one after that.
func TestSaveWithoutTheCatalogIsNotFoundAsPartialByAReconcileOfThatTime(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	f.catalog.fail = func(string) error { return errCatalogDown }
	res, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	f.catalog.fail = nil
	two := f.backends["two"]
	two.Backend = early{two.Backend, res.Snapshot.Name}
	f.mustReconcile(t)
	if rec := f.records(t)[res.Snapshot.Name]; rec == nil || rec.State() != snapshot.StateReady {
		t.Errorf("record %+v", rec)
	}
}

func TestCatalogThatFailsForAMomentIsWrittenInTheEnd(t *testing.T) {
	f := newFixture(t)
	failed := false
	f.catalog.fail = func(op string) error {
		if op == "create" && !failed {
			failed = true
			return errCatalogDown
		}
		return nil
	}
	res, err := f.Save(t.Context(), cluster.SaveRequest{})
	if err != nil || len(res.Warnings) > 0 || f.records(t)[res.Snapshot.Name] == nil {
		t.Errorf("Save: %v, warnings %q, record %v", err, res.Warnings, f.records(t)[res.Snapshot.Name])
	}
}

func TestASuccessIsRepeatedAsOneWhateverBecameOfIt(t *testing.T) {
	f := newFixture(t)
	res, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(f.path("two", res.Snapshot.Name, ".db.zst"), 10); err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t)
	again, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err != nil || again.Snapshot.Name != res.Snapshot.Name || again.Snapshot.State() != snapshot.StatePartial {
		t.Errorf("the repeated request gave %+v, %v", again.Snapshot, err)
	}
}

func TestFailedRecordIsKeptWhileItsBackendCannotBeSeen(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	for _, b := range f.backends {
		b.put = func(context.Context, string, io.Reader) error { return errBroken }
	}
	res, _ := f.Save(t.Context(), cluster.SaveRequest{})
	f.clock.pass(48 * time.Hour)
	f.backends["two"].list = func(repository.Object) error { return errBroken }
	f.reconcile(t, cluster.ReconcileRequest{})
	f.reconcile(t, cluster.ReconcileRequest{Backends: []string{"one"}})
	if f.records(t)[res.Snapshot.Name] == nil {
		t.Error("it was forgotten")
	}
	f.backends["two"].list = nil
	f.mustReconcile(t)
	if f.records(t)[res.Snapshot.Name] != nil {
		t.Error("it was not forgotten")
	}
}

func TestOlderSaveThatIsFoundAgainDoesNotTakeTheRequest(t *testing.T) {
	f := newFixture(t)
	f.catalog.fail = func(string) error { return errCatalogDown }
	first, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	f.catalog.fail = nil
	second, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err != nil || second.Snapshot.Name == first.Snapshot.Name {
		t.Fatalf("second save: %+v, %v", second.Snapshot, err)
	}
	f.mustReconcile(t)
	again, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err != nil || again.Snapshot.Name != second.Snapshot.Name {
		t.Errorf("the repeated request gave %s, %v; want %s", again.Snapshot.Name, err, second.Snapshot.Name)
	}
}

func TestJoinedCallOutlivesTheOneThatWasCancelled(t *testing.T) {
	f := newFixture(t)
	first, cancel := context.WithCancel(t.Context())
	defer cancel()
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.backends["two"].put = func(ctx context.Context, key string, _ io.Reader) (err error) {
		if strings.HasSuffix(key, ".db.zst") {
			once.Do(func() {
				close(entered)
				<-leave
				err = context.Cause(ctx)
			})
		}
		return err
	}
	results := make(chan error, 2)
	save := func(ctx context.Context) {
		_, err := f.Save(ctx, cluster.SaveRequest{RequestID: "r"})
		results <- err
	}
	go save(first)
	<-entered
	cancel()
	go save(context.WithoutCancel(t.Context()))
	close(leave)
	var cancelled, succeeded int
	for range 2 {
		switch err := <-results; {
		case err == nil:
			succeeded++
		case snapshot.ReasonOf(err) == snapshot.ReasonCancelled:
			cancelled++
		default:
			t.Error(err)
		}
	}
	if cancelled != 1 || succeeded != 1 {
		t.Errorf("%d were cancelled, %d succeeded", cancelled, succeeded)
	}
}

// A save that panics has failed, for the caller, for a call that has joined it, and for metrics and watchers. The
// cluster is not busy after it.
func TestASaveThatPanicsHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		req := cluster.SaveRequest{RequestID: "r"}
		joined := make(chan error, 1)
		f.source.open = func(*cluster.Stream) (*cluster.Stream, error) {
			go func() {
				_, err := f.Save(t.Context(), req)
				joined <- err
			}()
			synctest.Wait()
			panic("a defect")
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was hidden")
				}
			}()
			_, _ = f.Save(t.Context(), req)
		}()
		if err := <-joined; err == nil || snapshot.ReasonOf(err) != snapshot.ReasonInternal {
			t.Errorf("the call that has joined: %v", err)
		}
		events := f.events.take()
		if last := events[len(events)-1]; last.Type != snapshot.EventFinished || last.Err == nil || snapshot.ReasonOf(last.Err) != snapshot.ReasonInternal {
			t.Errorf("the last event is %+v", last)
		}
		f.source.open = nil
		f.mustSave(t)
	})
}

func TestAnotherStoreMountedWhileItIsListedLosesNothing(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	f.clock.pass(time.Hour)
	if err := os.Remove(f.path("two", s.Name, ".db.zst")); err != nil {
		t.Fatal(err)
	}
	f.backends["two"].list = func(repository.Object) error {
		writeFile(t, f.dirs["two"]+"/"+snapshot.MarkerKey, `{"formatVersion":1,"storeId":"another"}`)
		return nil
	}
	reports := f.reconcile(t, cluster.ReconcileRequest{})
	if snapshot.ReasonOf(reports["two"].Err) != snapshot.ReasonBackendWrongStore {
		t.Errorf("two: %+v", reports["two"])
	}
	if rec := f.records(t)[s.Name]; rec == nil || rec.Location("two") == nil {
		t.Errorf("record %+v", rec)
	}
}
