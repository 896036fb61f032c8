package cluster_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

var scheduled = cluster.SaveRequest{RequestID: "default/nightly/1", Trigger: snapshot.TriggerScheduled}

// onTwo is scheduled for one backend, so that nothing else of it can be whole while that one is frozen.
var onTwo = cluster.SaveRequest{RequestID: scheduled.RequestID, Trigger: snapshot.TriggerScheduled, Backends: []string{"two"}}

// heir returns another replica, with a catalog of its own to put hooks on.
func (f *fixture) heir(t *testing.T) (*cluster.Cluster, *hookedCatalog) {
	t.Helper()
	hooked := &hookedCatalog{Catalog: f.catalog.Catalog}
	return f.replica(t, func(c *cluster.Config) {
		c.Node = "node-2"
		setCatalog(c, hooked)
	}), hooked
}

// freeze stops a save at a step, once, and does something meanwhile.
func (f *fixture) freeze(step string, meanwhile func()) {
	var frozen atomic.Bool // the heir comes by here, too
	if op, ok := strings.CutPrefix(step, "catalog "); ok {
		f.catalog.fail = func(o string) error {
			if o == op && frozen.CompareAndSwap(false, true) {
				meanwhile()
			}
			return nil
		}
		return
	}
	suffix := strings.TrimPrefix(step, "put ")
	f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
		if strings.HasPrefix(key, "default/") && strings.HasSuffix(key, suffix) && frozen.CompareAndSwap(false, true) {
			meanwhile()
		}
		return nil
	}
}

// oneSnapshot checks that the request has exactly one snapshot that holds anything, in the catalog and on the backends.
func (f *fixture) oneSnapshot(t *testing.T) string {
	t.Helper()
	f.mustReconcile(t)
	var names []string
	for name, rec := range f.records(t) {
		if rec.RequestID != scheduled.RequestID {
			continue
		}
		if rec.State() != snapshot.StateFailed {
			names = append(names, name)
		}
		if rec.State() == snapshot.StateSaving {
			t.Errorf("%s is still SAVING", name)
		}
	}
	if len(names) != 1 {
		t.Fatalf("the request has the snapshots %q", names)
	}
	for backend := range f.dirs {
		for _, file := range f.files(t, backend) {
			if !strings.Contains(file, names[0]) && !strings.Contains(file, "on-demand") {
				t.Errorf("left on %s: %s", backend, file)
			}
		}
	}
	return names[0]
}

func TestRequestThatIsTakenOverFromAPausedSaveHasOneSnapshot(t *testing.T) {
	for _, step := range []string{"catalog request", "catalog lock", "catalog create", "put .db.zst", "put .json", "catalog update"} {
		t.Run(step, func(t *testing.T) {
			f := newFixture(t)
			req := onTwo
			req.NamePrefix = "etcd-snapshot"
			f.mustSave(t) // the stores are known
			other, _ := f.heir(t)
			var second cluster.SaveResult
			f.freeze(step, func() {
				f.breakLock(t)
				var err error
				if second, err = other.Save(t.Context(), req); err != nil && second.Snapshot == nil {
					t.Error(err)
				}
			})
			first, err := f.Save(t.Context(), req)
			name := f.oneSnapshot(t)
			if second.Snapshot.Name != name {
				t.Errorf("the heir was told of %s, and there is %s", second.Snapshot.Name, name)
			}
			switch {
			case err == nil && first.Snapshot.Name != name:
				t.Errorf("the paused save was told of %s, and there is %s", first.Snapshot.Name, name)
			case err != nil && snapshot.ReasonOf(err) != snapshot.ReasonInterrupted:
				t.Errorf("the paused save: %v", err)
			}
			if again, err := f.Save(t.Context(), req); err != nil || again.Snapshot.Name != name {
				t.Errorf("the repeated request gave %+v, %v", again.Snapshot, err)
			}
		})
	}
}

// The new leader has found the save dead and is about to begin its own when the other one wakes up and ends.
func TestSaveThatWakesUpBeforeItIsTakenOverIsTheOutcome(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	other, hooks := f.heir(t)
	thaw, taken := make(chan struct{}), make(chan error, 1)
	var first, second cluster.SaveResult
	var firstErr error
	done := make(chan struct{})
	hooks.fail = func(op string) error {
		if op == "create" {
			hooks.fail = nil
			close(thaw)
			<-done
		}
		return nil
	}
	f.freeze("put .db.zst", func() {
		f.breakLock(t)
		go func() {
			var err error
			second, err = other.Save(context.WithoutCancel(t.Context()), onTwo)
			taken <- err
		}()
		<-thaw
	})
	first, firstErr = f.Save(t.Context(), onTwo)
	close(done)
	if err := <-taken; err != nil || firstErr != nil {
		t.Fatalf("the saves ended with %v and %v", firstErr, err)
	}
	if name := f.oneSnapshot(t); first.Snapshot.Name != name || second.Snapshot.Name != name {
		t.Errorf("they were told of %s and %s, and there is %s", first.Snapshot.Name, second.Snapshot.Name, name)
	}
}

// What a save has stored that was killed before it could record it is the outcome of its request.
func TestWhatADeadSaveHasStoredIsTheOutcome(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	f.catalog.fail = func(op string) error {
		if op == "update" {
			return errCatalogDown
		}
		return nil
	}
	first, err := f.Save(t.Context(), scheduled)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := f.heir(t)
	second, err := other.Save(t.Context(), scheduled)
	if err != nil || second.Snapshot.Name != first.Snapshot.Name || second.Snapshot.State() != snapshot.StateReady {
		t.Errorf("the heir was told of %+v, %v", second.Snapshot, err)
	}
	f.catalog.fail = nil
	f.oneSnapshot(t)
}

// In the disaster nothing can be known of other replicas, and the save goes through.
func TestSaveWhoseLockIsLostWithTheCatalogGoesThrough(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	down := false
	f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
		if strings.HasSuffix(key, ".db.zst") {
			f.breakLock(t)
			f.catalog.mu.Lock()
			down = true
			f.catalog.mu.Unlock()
		}
		return nil
	}
	f.catalog.fail = func(string) error {
		f.catalog.mu.Lock()
		defer f.catalog.mu.Unlock()
		if down {
			return errCatalogDown
		}
		return nil
	}
	res, err := f.Save(t.Context(), scheduled)
	if err != nil || res.Snapshot.State() != snapshot.StateReady || len(res.Warnings) == 0 {
		t.Fatalf("Save: %+v, %v", res, err)
	}
	f.catalog.fail, f.backends["two"].put = nil, nil
	if name := f.oneSnapshot(t); name != res.Snapshot.Name {
		t.Errorf("there is %s, want %s", name, res.Snapshot.Name)
	}
}

// A save that went on without the catalog finds out at the end that its request has another snapshot.
func TestSaveThatRanWithoutTheCatalogGivesWayToItsRequestsSnapshot(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	other, _ := f.heir(t)
	lockDown := true
	f.catalog.fail = func(op string) error {
		if lockDown && slices.Contains([]string{"request", "lock"}, op) {
			return errCatalogDown
		}
		return nil
	}
	var second cluster.SaveResult
	f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) (err error) {
		if strings.HasSuffix(key, ".db.zst") {
			f.backends["two"].put = nil
			second, err = other.Save(t.Context(), scheduled)
			lockDown = false
		}
		return err
	}
	_, err := f.Save(t.Context(), scheduled)
	if snapshot.ReasonOf(err) != snapshot.ReasonInterrupted {
		t.Errorf("Save: %v", err)
	}
	if name := f.oneSnapshot(t); name != second.Snapshot.Name {
		t.Errorf("there is %s, want %s", name, second.Snapshot.Name)
	}
}

// A save that was taken over, woke up, and was killed before it could remove what it had stored.
func TestWholeCopyOfASaveThatWasTakenOverIsRemovedByReconcile(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	other, _ := f.heir(t)
	var second cluster.SaveResult
	for _, b := range f.backends {
		b.del = func(string) error { return errBroken } // it is killed before this
	}
	f.freeze("put .json", func() {
		f.breakLock(t)
		rec := f.only(t)
		rec = forge(rec, func(st *snapshot.Status, b *snapshot.Bookkeeping) {
			st.State, b.Owner, b.SupersededBy = snapshot.StateFailed, "", "etcd-snapshot-node-2-1"
			for i := range st.Locations {
				st.Locations[i].State, st.Locations[i].Error = snapshot.StateFailed, "dead"
			}
		})
		heir := &snapshot.Record{Snapshot: snapshot.Snapshot{Name: rec.SupersededBy(), Cluster: "default", CreateTime: f.clock.Now()}, RequestID: rec.RequestID}
		if err := f.catalog.Catalog.Begin(t.Context(), heir, rec); err != nil {
			t.Error(err)
		}
		if err := f.catalog.Catalog.Remove(t.Context(), heir); err != nil {
			t.Error(err)
		}
	})
	first, err := f.Save(t.Context(), scheduled)
	if snapshot.ReasonOf(err) != snapshot.ReasonInterrupted {
		t.Fatalf("Save: %v", err)
	}
	// Another one has the request, and is READY on both.
	f.catalog.fail, f.backends["two"].put = nil, nil
	rec := f.records(t)[first.Snapshot.Name]
	if rec.SupersededBy() == "" || rec.State() != snapshot.StateFailed {
		t.Fatalf("record %+v", rec)
	}
	if second, err = other.Save(t.Context(), scheduled); err != nil {
		t.Fatal(err)
	}
	for _, b := range f.backends {
		b.del = nil
	}
	f.clock.pass(2 * time.Hour)
	f.mustReconcile(t)
	f.mustReconcile(t)
	if name := f.oneSnapshot(t); name != second.Snapshot.Name {
		t.Errorf("there is %s, want %s", name, second.Snapshot.Name)
	}
}

// The replica that took the request over may yet fail. Until it has a snapshot, what the paused one has is not removed.
func TestPausedSaveIsTheSnapshotWhenItsHeirComesToNothing(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	other, _ := f.heir(t)
	begun, fail, failed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	f.freeze("put .json", func() {
		f.breakLock(t)
		f.source.open = func(*cluster.Stream) (*cluster.Stream, error) {
			close(begun)
			<-fail
			return nil, errBroken
		}
		go func() {
			_, err := other.Save(context.WithoutCancel(t.Context()), onTwo)
			failed <- err
		}()
		<-begun
	})
	first, err := f.Save(t.Context(), onTwo)
	close(fail)
	if heirErr := <-failed; heirErr == nil || snapshot.ReasonOf(err) != snapshot.ReasonInterrupted {
		t.Fatalf("the saves ended with %v and %v", err, heirErr)
	}
	if rec := f.records(t)[first.Snapshot.Name]; rec.State() != snapshot.StateFailed {
		t.Errorf("meanwhile it was %s", rec.State())
	}
	f.clock.pass(2 * time.Hour)
	if name := f.oneSnapshot(t); name != first.Snapshot.Name {
		t.Errorf("there is %s, want %s", name, first.Snapshot.Name)
	}
}

// Nothing that is written into the record of a save makes it remove what it has stored: that another snapshot has its
// request, the manifest of that one must say.
func TestARunningSaveDoesNotGiveWayToASnapshotOfAnotherRequest(t *testing.T) {
	for what, req := range map[string]cluster.SaveRequest{"a request": scheduled, "no request": {}} {
		for _, mayBeRead := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, the manifest of the other can be read: %t", what, mayBeRead), func(t *testing.T) {
				f := newFixture(t)
				old := f.mustSave(t).Name
				f.clock.pass(time.Hour)
				f.freeze("put .json", func() {
					for name, rec := range f.records(t) {
						if rec.State() == snapshot.StateSaving {
							f.forged(t, name, func(_ *snapshot.Record, _ *snapshot.Status, b *snapshot.Bookkeeping) {
								b.SupersededBy = old
							})
						}
					}
					if !mayBeRead {
						for _, b := range f.backends {
							b.get = func(key string) error { return unreadable(key, old) }
						}
					}
				})
				res, err := f.Save(t.Context(), req)
				if named := req.RequestID != "" && !mayBeRead; (err != nil) != named {
					t.Errorf("Save: %v", err)
				}
				for _, b := range f.backends {
					b.get = nil
				}
				f.intact(t, old)
				f.intact(t, res.Snapshot.Name)
			})
		}
	}
}

// The same holds for a record that claims the request of a save that began without the catalog.
func TestASaveThatRanWithoutTheCatalogDoesNotGiveWayToASnapshotOfAnotherRequest(t *testing.T) {
	f := newFixture(t)
	old := f.mustSave(t).Name
	f.edited(t, old, func(rec *snapshot.Record) { rec.RequestID = scheduled.RequestID })
	f.clock.pass(time.Hour)
	f.catalog.fail = func(op string) error {
		if op == "request" || op == "lock" {
			return errCatalogDown
		}
		return nil
	}
	f.freeze("put .json", func() { f.catalog.fail = nil })
	res, err := f.Save(t.Context(), scheduled)
	if err != nil || len(res.Warnings) > 0 {
		t.Errorf("Save: %+v, %v", res, err)
	}
	f.intact(t, old)
	f.intact(t, res.Snapshot.Name)
	if again, err := f.Save(t.Context(), scheduled); err != nil || again.Snapshot.Name != res.Snapshot.Name {
		t.Errorf("the same request gave %+v, %v", again.Snapshot, err)
	}
}

// unreadable is the error of a backend that cannot read the manifest of a snapshot.
func unreadable(key, name string) error {
	if strings.Contains(key, name) {
		return errBroken
	}
	return nil
}

// only returns the record of the scheduled save.
func (f *fixture) only(t *testing.T) *snapshot.Record {
	t.Helper()
	rec, err := f.catalog.Catalog.ByRequestID(t.Context(), scheduled.RequestID)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}
