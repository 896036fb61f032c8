package cluster_test

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// scheduled saves n times, an hour apart, and returns the names, newest first.
func (f *fixture) scheduled(t *testing.T, n int) []string {
	t.Helper()
	var names []string
	for range n {
		f.clock.pass(time.Hour)
		res, err := f.Save(t.Context(), cluster.SaveRequest{Trigger: snapshot.TriggerScheduled})
		if err != nil {
			t.Fatal(err)
		}
		names = append([]string{res.Snapshot.Name}, names...)
	}
	return names
}

func keepLast(n int) func(*cluster.Config) {
	return func(c *cluster.Config) {
		c.Retention = map[string]retention.Rules{"one": {KeepLast: n}, "two": {KeepLast: 2 * n}}
	}
}

// staying returns which names stay on a backend and that nothing has failed.
func staying(t *testing.T, decisions []cluster.Decision, backend string) []string {
	t.Helper()
	var names []string
	for _, d := range decisions {
		if d.Err != nil {
			t.Errorf("%s on %s: %v", d.Name, d.Backend, d.Err)
		}
		if d.Backend == backend && d.Stays {
			names = append(names, d.Name)
		}
	}
	return names
}

func TestPruneRemovesWhatItSays(t *testing.T) {
	f := newFixture(t, keepLast(1))
	asked := f.mustSave(t).Name
	names := f.scheduled(t, 4)
	before := f.records(t)

	want := map[string][]string{"one": {names[0], asked}, "two": {names[0], names[1], asked}}
	said, err := f.Prune(t.Context(), cluster.PruneRequest{ValidateOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if after := f.records(t); len(after) != len(before) || len(f.files(t, "one")) != 10 {
		t.Error("a dry run has removed something")
	}
	did, err := f.Prune(t.Context(), cluster.PruneRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for backend, stay := range want {
		if got := staying(t, said, backend); !slices.Equal(got, stay) {
			t.Errorf("on %s it was said that %q stay, want %q", backend, got, stay)
		}
		if got := staying(t, did, backend); !slices.Equal(got, stay) {
			t.Errorf("on %s %q stay, want %q", backend, got, stay)
		}
		if got := f.files(t, backend); len(got) != 2*len(stay) {
			t.Errorf("%s has %q, want data and manifest of %q", backend, got, stay)
		}
	}
	records := f.records(t)
	if got, all := slices.Sorted(maps.Keys(records)), []string{names[0], names[1], asked}; len(got) != len(all) {
		t.Errorf("there are records of %q, want %q", got, all)
	}
	if rec := records[names[1]]; rec.State() != snapshot.StateReady || rec.Location("one") != nil {
		t.Errorf("what one backend still has is %v, on %v", rec.State(), rec.Locations())
	}

	again, err := f.Prune(t.Context(), cluster.PruneRequest{})
	if err != nil || slices.ContainsFunc(again, func(d cluster.Decision) bool { return !d.Stays }) {
		t.Errorf("a second run: %v, %v", again, err)
	}
	for _, r := range f.mustReconcile(t) {
		if r.Added+r.Updated+r.Removed+r.Swept+r.Foreign > 0 {
			t.Errorf("reconcile found something to do afterwards: %+v", r)
		}
	}
}

// A copy that another backend still has to get is the one that repair copies from. It stays for as long as that backend
// would keep it, but no longer.
func TestPruneWaitsForCopiesThatAreStillToBeMade(t *testing.T) {
	f := newFixture(t, keepLast(1)) // and 2 on "two"
	whole := f.scheduled(t, 2)
	var partial []string // newest first
	for range 3 {
		f.clock.pass(time.Hour)
		partial = append([]string{f.partialSave(t, cluster.SaveRequest{Trigger: snapshot.TriggerScheduled})}, partial...)
	}
	// On "one" by its rule: partial[0]. Because "two" would keep them: partial[1]. Because nothing lacks a copy: whole[0].
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := staying(t, decisions, "one"), []string{partial[0], partial[1], whole[0]}; !slices.Equal(got, want) {
		t.Fatalf("on one %q stay, want %q", got, want)
	}
	for i, why := range map[int]string{1: "it is still to be copied to two", 3: "it is the newest of which no backend lacks its copy"} {
		if decisions[i].Why != why {
			t.Errorf("%s stays because %q, want %q", decisions[i].Name, decisions[i].Why, why)
		}
	}
	if left := f.records(t); left[partial[2]] == nil || left[partial[2]].State() != snapshot.StateFailed || left[whole[1]] == nil {
		t.Errorf("records %v", left)
	}
	f.clock.pass(time.Hour)
	f.mustRepair(t)
	for name, want := range map[string][]string{"one": {partial[0]}, "two": {partial[0], partial[1]}} {
		decisions, err := f.Prune(t.Context(), cluster.PruneRequest{})
		if got := staying(t, decisions, name); err != nil || !slices.Equal(got, want) {
			t.Errorf("after the repair %q stay on %s, want %q: %v", got, name, want, err)
		}
	}
}

func TestTheLimitOfBytesDoesNotWaitForCopies(t *testing.T) {
	f := newFixture(t, func(c *cluster.Config) {
		c.Retention = map[string]retention.Rules{"one": {MaxTotalBytes: 1}}
	})
	f.partialSave(t, cluster.SaveRequest{Trigger: snapshot.TriggerScheduled})
	f.clock.pass(time.Hour)
	newest := f.partialSave(t, cluster.SaveRequest{Trigger: snapshot.TriggerScheduled})
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{})
	if got := staying(t, decisions, "one"); err != nil || !slices.Equal(got, []string{newest}) {
		t.Errorf("%q stay, want %q: %v", got, newest, err)
	}
}

// A copy was found damaged after the rules were applied: the one that is about to be removed may be its only source.
func TestPruneLooksAgainAtTheStateOfASnapshot(t *testing.T) {
	f := newFixture(t, keepLast(1))
	names := f.scheduled(t, 2)
	gets := 0
	f.catalog.fail = func(op string) error {
		if gets++; op != "get" || gets != 2 { // the newest is read first, to confirm it
			return nil
		}
		rec := f.records(t)[names[1]]
		rec.CopyFailed("two", errCatalogDown, true, f.clock.Now())
		return f.catalog.Catalog.Update(t.Context(), rec)
	}
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}})
	if err != nil || snapshot.ReasonOf(decisions[1].Err) != snapshot.ReasonConflict {
		t.Errorf("%+v, %v", decisions, err)
	}
	if len(f.files(t, "one")) != 4 {
		t.Errorf("left %q", f.files(t, "one"))
	}
}

// A PARTIAL snapshot that lacks one copy more is PARTIAL as before, and the copy that is about to go may be its last.
func TestPruneCountsTheCopiesOfAPartialSnapshotAgain(t *testing.T) {
	f := newFixture(t, func(c *cluster.Config) {
		c.Retention = map[string]retention.Rules{"one": {KeepLast: 1}, "two": {KeepLast: 5}, "three": {KeepLast: 1}}
	})
	f.addBackend(t, "three", t.TempDir())
	f.backends["three"].down()
	f.clock.pass(time.Hour)
	if _, err := f.Save(t.Context(), cluster.SaveRequest{Trigger: snapshot.TriggerScheduled}); err == nil {
		t.Fatal("the save has reached all backends")
	}
	f.backends["three"].put = nil
	f.scheduled(t, 1)
	old := slices.MinFunc(slices.Collect(maps.Values(f.records(t))), func(a, b *snapshot.Record) int { return a.CreateTime.Compare(b.CreateTime) })
	gets := 0
	f.catalog.fail = func(op string) error {
		if gets++; op != "get" || gets != 2 {
			return nil
		}
		rec := f.records(t)[old.Name]
		rec.CopyFailed("two", errCatalogDown, true, f.clock.Now())
		if rec.State() != snapshot.StatePartial {
			t.Errorf("it is %s", rec.State())
		}
		return f.catalog.Catalog.Update(t.Context(), rec)
	}
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}})
	if err != nil || len(decisions) != 2 || decisions[1].Name != old.Name || snapshot.ReasonOf(decisions[1].Err) != snapshot.ReasonConflict {
		t.Errorf("%+v, %v", decisions, err)
	}
	if len(f.files(t, "one")) != 4 {
		t.Errorf("left %q", f.files(t, "one"))
	}
	// Without such a change, it goes from all backends that do not keep it, one after the other.
	f.catalog.fail = nil
	f.cfg.Retention["two"] = retention.Rules{KeepLast: 1}
	f.Cluster = f.replica(t)
	f.scheduled(t, 1)
	decisions, err = f.Prune(t.Context(), cluster.PruneRequest{})
	for _, d := range decisions {
		if d.Err != nil {
			t.Errorf("%s on %s: %v", d.Name, d.Backend, d.Err)
		}
	}
	if err != nil || len(f.files(t, "one")) != 2 || len(f.files(t, "three")) != 2 {
		t.Errorf("left %q and %q, %v", f.files(t, "one"), f.files(t, "three"), err)
	}
}

// The catalog says that there is a newer one, but somebody has removed it by hand: what is left may be the last.
func TestPruneRemovesNothingWhenTheNewestIsNotThere(t *testing.T) {
	f := newFixture(t, keepLast(1))
	names := f.scheduled(t, 3)
	for _, suffix := range []string{".db.zst", ".json"} {
		t.Run(suffix, func(t *testing.T) {
			path := f.path("one", names[0], suffix)
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range decisions[1:] {
				if snapshot.ReasonOf(d.Err) != snapshot.ReasonConflict || !strings.Contains(d.Err.Error(), names[0]) {
					t.Errorf("%s: %v", d.Name, d.Err)
				}
			}
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
		})
	}
	if got := len(f.files(t, "one")); got != 6 {
		t.Errorf("%d files are left, want 6", got)
	}
}

// A copy that an object lock protects stays until the lock is over. The decision says so; maintenance is no failure.
func TestPruneWaitsForLocks(t *testing.T) {
	f := newFixture(t, keepLast(1))
	names := f.scheduled(t, 2)
	until := f.clock.Now().Add(time.Hour)
	f.backends["one"].stat = func(o *repository.Object) { o.LockedUntil = until }
	for _, dry := range []bool{true, false} {
		decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}, ValidateOnly: dry})
		if err != nil {
			t.Fatal(err)
		}
		if d := decisions[1]; !d.Stays || snapshot.ReasonOf(d.Err) != snapshot.ReasonObjectLocked || !strings.Contains(d.Why, "locked until") {
			t.Errorf("locked: %+v", d)
		}
	}
	_, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: names[1], Backends: []string{"one"}})
	if snapshot.ReasonOf(err) != snapshot.ReasonObjectLocked {
		t.Errorf("delete: %v", err)
	}
	f.clock.pass(2 * time.Hour)
	if _, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}}); err != nil || len(f.files(t, "one")) != 2 {
		t.Errorf("when the lock is over: %v, and %q", err, f.files(t, "one"))
	}
}

func TestPruneLeavesAnotherStoreAlone(t *testing.T) {
	f := newFixture(t, keepLast(1))
	f.scheduled(t, 2)
	marker := f.dirs["one"] + "/" + snapshot.MarkerKey
	doc, err := os.ReadFile(f.dirs["two"] + "/" + snapshot.MarkerKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(marker, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}, ValidateOnly: dry})
		if err != nil {
			t.Fatal(err)
		}
		if snapshot.ReasonOf(decisions[1].Err) != snapshot.ReasonBackendWrongStore || len(f.files(t, "one")) != 4 {
			t.Errorf("dry %t: %+v, and %d files", dry, decisions, len(f.files(t, "one")))
		}
	}
}

func TestPruneOfACopyThatIsGoneAlready(t *testing.T) {
	f := newFixture(t, keepLast(1))
	names := f.scheduled(t, 2)
	if err := os.Remove(f.path("one", names[1], ".db.zst")); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		decisions, err := f.Prune(t.Context(), cluster.PruneRequest{Backends: []string{"one"}, ValidateOnly: dry})
		if err != nil {
			t.Fatal(err)
		}
		if d := decisions[1]; d.Stays || d.Err != nil {
			t.Errorf("dry %t: %+v", dry, d)
		}
	}
	if got := f.files(t, "one"); len(got) != 2 {
		t.Errorf("%q are left", got)
	}
}

func TestDeleteRemovesASnapshot(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	f.seen.take()
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: s.Name, Etag: "1"}); snapshot.ReasonOf(err) != snapshot.ReasonEtagMismatch {
		t.Errorf("with another etag: %v", err)
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: s.Name, Backends: []string{"three"}}); snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
		t.Errorf("from a backend that does not have it: %v", err)
	}
	rec, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: s.Name, Backends: []string{"one", "one"}, Etag: s.Etag})
	if err != nil || rec == nil || rec.State() != snapshot.StateReady || len(rec.Locations()) != 1 || len(f.files(t, "one")) != 0 {
		t.Fatalf("from one: %+v, %v", rec, err)
	}
	rec, err = f.Delete(t.Context(), cluster.DeleteRequest{Name: s.Name})
	if err != nil || rec != nil || len(f.files(t, "two")) != 0 || len(f.records(t)) != 0 {
		t.Fatalf("from all: %+v, %v", rec, err)
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: s.Name}); snapshot.ReasonOf(err) != snapshot.ReasonSnapshotNotFound {
		t.Errorf("again: %v", err)
	}
	if got := f.seen.take(); !slices.Equal(got, []string{"deleted one", "deleted two"}) {
		t.Errorf("it was observed that %q", got)
	}
}

// Whatever step a removal breaks off at, the record says DELETING, and reconcile ends what was begun.
func TestReconcileEndsADeletion(t *testing.T) {
	down := &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Backend: "one", Message: "it is down"}
	for what, breakOff := range map[string]func(f *fixture){
		"the manifest is still there": func(f *fixture) { f.backends["one"].del = func(string) error { return down } },
		"the data is still there": func(f *fixture) {
			f.backends["one"].del = func(key string) error {
				if strings.HasSuffix(key, ".json") {
					return nil
				}
				return down
			}
		},
		"only the record is still there": func(f *fixture) {
			updates := 0
			f.catalog.fail = func(op string) error {
				if op == "remove" || op == "update" {
					if updates++; updates > 1 {
						return errCatalogDown
					}
				}
				return nil
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t)
			s := f.mustSave(t)
			breakOff(f)
			_, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: s.Name})
			if err == nil {
				t.Fatal("the removal went through")
			}
			rec := f.records(t)[s.Name]
			if l := rec.Location("one"); l == nil || l.State != snapshot.StateDeleting || rec.State() != snapshot.StateDeleting {
				t.Fatalf("the record says %v, %+v", rec.State(), rec.Locations())
			}
			f.backends["one"].del, f.catalog.fail = nil, nil

			dry := f.reconcile(t, cluster.ReconcileRequest{ValidateOnly: true})
			if dry["one"].Removed != 1 || f.records(t)[s.Name] == nil {
				t.Errorf("a dry run: %+v", dry["one"])
			}
			if r := f.mustReconcile(t); r["one"].Removed != 1 {
				t.Errorf("reconcile: %+v", r)
			}
			if recs := f.records(t); len(recs) != 0 || len(f.files(t, "one"))+len(f.files(t, "two")) != 0 {
				t.Errorf("left: %d records, %q, %q", len(recs), f.files(t, "one"), f.files(t, "two"))
			}
		})
	}
}

// The name leads to another snapshot by now: it is not the one that was to be deleted.
func TestDeleteLeavesAnotherSnapshotAlone(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	path := f.path("one", s.Name, ".json")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(doc), `"cluster": "default"`, `"cluster": "other"`, 1)
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = f.Delete(t.Context(), cluster.DeleteRequest{Name: s.Name})
	if e, ok := errors.AsType[*snapshot.Error](err); !ok || e.Reason != snapshot.ReasonConflict || e.Backend != "one" {
		t.Errorf("delete: %v", err)
	}
	if len(f.files(t, "one")) != 2 || len(f.files(t, "two")) != 0 {
		t.Errorf("left: %q and %q", f.files(t, "one"), f.files(t, "two"))
	}
}
