package cluster_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

// saves takes n snapshots and returns their names, the oldest first.
func (f *fixture) saves(t *testing.T, n int) (names []string) {
	t.Helper()
	for range n {
		names = append(names, f.mustSave(t).Name)
		f.clock.pass(2 * time.Hour)
	}
	return names
}

// lose removes a copy behind the service's back.
func (f *fixture) lose(t *testing.T, backend, name string) {
	t.Helper()
	for _, suffix := range []string{".db.zst", ".json"} {
		if err := os.Remove(f.path(backend, name, suffix)); err != nil {
			t.Fatal(err)
		}
	}
}

// wantBad checks that an error is of the records that cannot be read, and of nothing else.
func wantBad(t *testing.T, err error, names ...string) {
	t.Helper()
	if !errors.Is(err, snapshot.ErrBadRecord) || snapshot.ReasonOf(err) != snapshot.ReasonCatalogUnavailable {
		t.Fatalf("error %v, want that of records which cannot be read", err)
	}
	for _, n := range names {
		if !strings.Contains(err.Error(), n) {
			t.Errorf("the error does not name %s: %v", n, err)
		}
	}
}

func TestReconcileGoesOnBesideARecordThatCannotBeRead(t *testing.T) {
	f := newFixture(t)
	names := f.saves(t, 4)
	bad, forgotten, lost := names[1], names[2], names[3]
	f.catalog.Spoil(bad)
	f.catalog.Spoil("no-such-snapshot")
	f.forget(t, forgotten)
	f.lose(t, "two", lost)
	leftover := f.path("one", bad, ".db.zst.0a1b.tmp") // of its save, as far as anybody knows
	writeFile(t, leftover, "half")
	writeFile(t, f.path("one", "other", ".db.zst.0a1b.tmp"), "half")
	before := f.files(t, "two")

	for i, req := range []cluster.ReconcileRequest{{ValidateOnly: true}, {}, {Repair: true}, {}} {
		f.catalog.writes = nil
		reports, err := f.Reconcile(t.Context(), req)
		wantBad(t, err, bad, "no-such-snapshot")
		if len(reports) != 2 {
			t.Fatalf("%+v: reports %+v", req, reports)
		}
		for _, r := range reports {
			want := int64(4)
			if r.Backend == "two" && i < 3 {
				want = 3
			}
			if r.Err != nil || r.Listed != want {
				t.Errorf("%+v: %+v, want %d listed", req, r, want)
			}
			if err, told := f.seen.results[r.Backend]; err != nil || !told {
				t.Errorf("%+v: %s has reconciled with %v: %t", req, r.Backend, err, told)
			}
		}
		if _, err := f.catalog.Get(t.Context(), bad); !errors.Is(err, snapshot.ErrBadRecord) {
			t.Fatalf("%+v: the record that cannot be read: %v", req, err)
		}
		if req.ValidateOnly && len(f.catalog.writes) > 0 {
			t.Errorf("validate only writes: %q", f.catalog.writes)
		}
		if !req.ValidateOnly && f.seen.unread != 2 {
			t.Errorf("%+v: %d records that cannot be read were counted", req, f.seen.unread)
		}
	}
	if rec, err := f.Get(t.Context(), forgotten); err != nil || rec.State() != snapshot.StateReady {
		t.Errorf("the forgotten one: %+v, %v", rec, err)
	}
	if rec, err := f.Get(t.Context(), lost); err != nil || len(rec.ReadyOn()) != 2 {
		t.Errorf("the one that had lost a copy is not repaired: %+v, %v", rec, err)
	}
	after := f.files(t, "two")
	for _, file := range before {
		if !slices.Contains(after, file) {
			t.Errorf("%s is gone", file)
		}
	}
	left := f.files(t, "one")
	if !slices.Contains(left, "default/"+bad+".db.zst.0a1b.tmp") {
		t.Error("what may be of its save was swept")
	}
	if slices.Contains(left, "default/other.db.zst.0a1b.tmp") {
		t.Error("the leftover of another save was not swept")
	}

	f.catalog.Wipe(bad)
	f.catalog.Wipe("no-such-snapshot")
	f.mustReconcile(t)
	if rec := f.records(t)[bad]; rec == nil || rec.State() != snapshot.StateReady || len(rec.ReadyOn()) != 2 {
		t.Errorf("after its record was removed: %+v", rec)
	}
}

// A record that becomes unreadable while it is reconciled is left alone like one that was before.
func TestReconcileGoesOnWhenARecordBecomesUnreadable(t *testing.T) {
	f := newFixture(t)
	names := f.saves(t, 3)
	for _, name := range names {
		f.lose(t, "two", name)
	}
	var spoil sync.Once // records are reconciled side by side
	f.catalog.fail = func(op string) error {
		if op == "update" {
			spoil.Do(func() { f.catalog.Spoil(names[1]) })
		}
		return nil
	}
	reports, err := f.Reconcile(t.Context(), cluster.ReconcileRequest{})
	if err != nil { // unless it was written before
		wantBad(t, err, names[1])
	}
	for _, r := range reports {
		if r.Err != nil || r.Backend == "two" && r.Removed < 2 {
			t.Errorf("%+v", r)
		}
	}
}

func TestMaintenanceGoesOnBesideARecordThatCannotBeRead(t *testing.T) {
	f := newFixture(t, keepLast(1))
	names := f.scheduled(t, 5) // the newest first
	f.catalog.Spoil(names[0])
	f.catalog.Spoil(names[3])
	wantBad(t, f.Maintain(t.Context()), names[0], names[3])
	var got []string
	for name, kept := range map[string]int{names[0]: 2, names[1]: 2, names[2]: 1, names[3]: 2, names[4]: 0} {
		for _, backend := range []string{"one", "two"} {
			if slices.Contains(f.files(t, backend), "default/"+name+".db.zst") {
				kept--
			}
		}
		if kept != 0 {
			got = append(got, name)
		}
	}
	if len(got) > 0 {
		t.Errorf("there are too many or too few copies of %q of %q", got, names)
	}
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := staying(t, decisions, "one"); !slices.Equal(got, names[1:2]) {
		t.Errorf("on one stay %q", got)
	}
}

func TestRepairGoesOnBesideARecordThatCannotBeRead(t *testing.T) {
	f := newFixture(t)
	first := f.partialSave(t, cluster.SaveRequest{})
	f.clock.pass(2 * time.Hour)
	second := f.partialSave(t, cluster.SaveRequest{})
	f.clock.pass(2 * time.Hour)
	f.catalog.Spoil(second)
	f.mustRepair(t)
	if rec, err := f.Get(t.Context(), first); err != nil || rec.State() != snapshot.StateReady {
		t.Errorf("%+v, %v", rec, err)
	}
}

// The record may become unreadable between the scan and the attempt.
func TestRepairGoesOnWhenARecordBecomesUnreadable(t *testing.T) {
	f := newFixture(t)
	first := f.partialSave(t, cluster.SaveRequest{})
	f.clock.pass(2 * time.Hour)
	second := f.partialSave(t, cluster.SaveRequest{}) // the newest is repaired first
	f.clock.pass(2 * time.Hour)
	f.catalog.fail = func(op string) error {
		if op == "get" {
			f.catalog.fail = nil
			f.catalog.Spoil(second)
		}
		return nil
	}
	f.mustRepair(t)
	if rec, err := f.Get(t.Context(), first); err != nil || rec.State() != snapshot.StateReady {
		t.Errorf("%+v, %v", rec, err)
	}
}

func TestScrubGoesOnBesideARecordThatCannotBeRead(t *testing.T) {
	f := newFixture(t)
	names := f.saves(t, 3)
	f.catalog.Spoil(names[2])
	wantBad(t, f.Scrub(t.Context(), cluster.Scrub{Share: 100}), names[2])
	for _, name := range names[:2] {
		if rec, err := f.Get(t.Context(), name); err != nil || rec.Verification == nil || !rec.Verification.Passed {
			t.Errorf("%s: %+v, %v", name, rec, err)
		}
	}
	f.catalog.Spoil(names[0])
	f.catalog.Spoil(names[1])
	wantBad(t, f.Scrub(t.Context(), cluster.Scrub{Share: 100}), names...) // none is left
}

func TestNewestFallbackIsDeliveredBesideARecordThatCannotBeRead(t *testing.T) {
	f, heal := keeper(t)
	var names []string
	for range 2 {
		res, err := f.Save(t.Context(), cluster.SaveRequest{})
		if err == nil {
			t.Fatal("a backend took it")
		}
		names = append(names, res.Snapshot.Name)
		f.stored.write()
		f.clock.pass(2 * time.Hour)
	}
	f.catalog.Spoil(names[0])
	heal("one", "two")
	f.deliver(t)
	if rec, err := f.Get(t.Context(), names[1]); err != nil || len(rec.ReadyOn()) == 0 {
		t.Errorf("the newest: %+v, %v", rec, err)
	}
	if got := f.held(t); !slices.Equal(got, names[:1]) {
		t.Errorf("there are kept %q, want the one whose record cannot be read, %q", got, names[0])
	}
}

// A request whose record cannot be read is saved anew, and ends.
func TestRequestWhoseRecordCannotBeReadIsSavedAnew(t *testing.T) {
	f := newFixture(t)
	first, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "id"})
	if err != nil {
		t.Fatal(err)
	}
	f.catalog.Spoil(first.Snapshot.Name)
	f.clock.pass(time.Minute)
	second, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "id"})
	if err != nil || second.Snapshot.Name == first.Snapshot.Name || len(second.Warnings) > 0 {
		t.Fatalf("%+v, %v", second, err)
	}
	again, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "id"})
	if err != nil || again.Snapshot.Name != second.Snapshot.Name {
		t.Errorf("%+v, %v", again, err)
	}
}

// A record that says SAVING and names nobody who saves is not taken for a save that runs, though nobody holds the lock.
func TestSaveOfNobodyIsSettled(t *testing.T) {
	f := newFixture(t)
	res, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "id"})
	if err != nil {
		t.Fatal(err)
	}
	rec := forge(f.records(t)[res.Snapshot.Name], func(st *snapshot.Status, b *snapshot.Bookkeeping) {
		st.State, b.Owner = snapshot.StateSaving, ""
	})
	if err := f.catalog.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	replica := f.replica(t)
	again, err := replica.Save(t.Context(), cluster.SaveRequest{RequestID: "id"})
	if err != nil || again.Snapshot.Name != rec.Name {
		t.Errorf("the request again: %+v, %v", again, err)
	}
	rec = forge(f.records(t)[rec.Name], func(st *snapshot.Status, b *snapshot.Bookkeeping) {
		st.State, b.Owner = snapshot.StateSaving, ""
	})
	if err := f.catalog.Update(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	f.mustReconcile(t)
	if rec := f.records(t)[rec.Name]; rec.State() != snapshot.StateReady {
		t.Errorf("it is %v", rec.State())
	}
}

// The error of a save that meets a lock has all that the catalog knows about it.
func TestSaveInProgressSaysWhoHoldsTheLock(t *testing.T) {
	f := newFixture(t)
	lock, err := f.catalog.Lock(t.Context(), "node-7/SOMEBODY")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock(context.WithoutCancel(t.Context()))
	_, err = f.Save(t.Context(), cluster.SaveRequest{})
	if snapshot.ReasonOf(err) != snapshot.ReasonSaveInProgress || !strings.Contains(err.Error(), "node-7/SOMEBODY") {
		t.Errorf("%v", err)
	}
}
