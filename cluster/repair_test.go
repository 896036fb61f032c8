package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

var errDown = &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Backend: "two", Message: "backend \"two\" is down"}

// down makes a backend refuse everything that is written below the cluster's prefix.
func (b *hookedBackend) down() {
	b.put = func(_ context.Context, key string, _ io.Reader) error {
		if strings.HasPrefix(key, "default/") {
			return errDown
		}
		return nil
	}
}

// partialSave returns a snapshot that "one" has and "two" has not.
func (f *fixture) partialSave(t *testing.T, req cluster.SaveRequest) string {
	t.Helper()
	f.backends["two"].down()
	res, err := f.Save(t.Context(), req)
	if err == nil || res.Snapshot.State() != snapshot.StatePartial {
		t.Fatalf("Save: %+v, %v", res.Snapshot, err)
	}
	f.backends["two"].put = nil
	f.seen.take()
	return res.Snapshot.Name
}

func (f *fixture) mustRepair(t *testing.T) time.Time {
	t.Helper()
	next, err := f.Repair(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// twins asserts that a snapshot is READY and the same on both backends, and that reconcile has nothing to add to that.
func (f *fixture) twins(t *testing.T, name string) {
	t.Helper()
	rec := f.records(t)[name]
	if rec == nil || rec.State() != snapshot.StateReady || rec.ErrorText() != "" || len(rec.Failures())+len(rec.Repairs())+len(rec.Bookkeeping().Damaged) > 0 {
		t.Fatalf("record %+v", rec)
	}
	for _, suffix := range []string{".db.zst", ".json"} {
		if one, two := read(t, f.path("one", name, suffix)), read(t, f.path("two", name, suffix)); !bytes.Equal(one, two) {
			t.Errorf("%s: the copies differ", suffix)
		}
	}
	f.agrees(t)
	f.quiet(t)
}

func TestFailedUploadIsRepairedByItself(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{RequestID: "r"})
	failed := f.clock.Now()
	if next := f.mustRepair(t); next.Sub(failed) > snapshot.FirstRepair || next.Before(failed) {
		t.Errorf("the first repair is due %v after the failure", next.Sub(failed))
	}
	if w := f.seen.waiting["two"]; w.Count != 1 || w.Since.After(failed) || len(f.seen.waiting) != 1 {
		t.Errorf("waiting: %+v", f.seen.waiting)
	}
	if got := f.seen.take(); len(got) > 0 {
		t.Errorf("before it was due: %q", got)
	}
	f.clock.pass(snapshot.FirstRepair)
	if next := f.mustRepair(t); !next.IsZero() {
		t.Errorf("something waits until %v", next)
	}
	if got, want := f.seen.take(), []string{"repair two success", "write local success"}; !slices.Equal(got, want) {
		t.Errorf("observed %q, want %q", got, want)
	}
	if len(f.seen.waiting) > 0 {
		t.Errorf("waiting: %+v", f.seen.waiting)
	}
	f.twins(t, name)
	res, err := f.Save(t.Context(), cluster.SaveRequest{RequestID: "r"})
	if err != nil || res.Snapshot.Name != name {
		t.Errorf("the repeated request gave %s, %v", res.Snapshot.Name, err)
	}
}

func TestRepairBacksOffAndRemembersItInTheCatalog(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	f.backends["two"].down()
	f.clock.pass(snapshot.FirstRepair)
	want := snapshot.FirstRepair
	for i := range 9 {
		f.Cluster = f.replica(t) // each attempt by another replica
		next := f.mustRepair(t)
		if gap := next.Sub(f.clock.Now()); gap < want*9/10 || gap > want*11/10 {
			t.Errorf("after attempt %d: the next one in %v, want about %v", i+1, gap, want)
		}
		again := f.mustRepair(t)
		if got := f.seen.take(); !slices.Equal(got, []string{"repair two error", "write local error"}) || !again.Equal(next) {
			t.Errorf("attempt %d: observed %q; next %v, then %v", i+1, got, next, again)
		}
		f.mustReconcile(t) // keeps all that is known
		f.seen.take()
		if rec := f.records(t)[name]; rec.State() != snapshot.StatePartial || rec.Repairs()[0].Attempts != int64(i+1) || !strings.Contains(rec.Repairs()[0].Error, "is down") {
			t.Errorf("record %+v", rec)
		}
		f.clock.pass(next.Sub(f.clock.Now()))
		want = min(2*want, snapshot.MaxRepair)
	}
	f.backends["two"].put = nil
	f.mustRepair(t)
	f.twins(t, name)
}

func TestADeadBackendIsTriedOnceAPass(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		f.partialSave(t, cluster.SaveRequest{})
	}
	f.backends["two"].down()
	f.clock.pass(snapshot.FirstRepair)
	f.mustRepair(t)
	if got := f.seen.take(); !slices.Equal(got, []string{"repair two error", "write local error"}) {
		t.Errorf("observed %q", got)
	}
	if w := f.seen.waiting["two"]; w.Count != 3 {
		t.Errorf("waiting: %+v", f.seen.waiting)
	}
}

func TestDeliberateRemovalIsRespectedUntilARepairIsAskedFor(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	for _, suffix := range []string{".db.zst", ".json"} {
		if err := os.Remove(f.path("two", s.Name, suffix)); err != nil {
			t.Fatal(err)
		}
	}
	f.mustReconcile(t)
	f.clock.pass(24 * time.Hour)
	if next := f.mustRepair(t); !next.IsZero() || len(f.files(t, "two")) > 0 {
		t.Errorf("next %v; on two: %q", next, f.files(t, "two"))
	}
	dry := f.reconcile(t, cluster.ReconcileRequest{Repair: true, ValidateOnly: true})
	if dry["two"].Repaired != 1 || dry["one"].Repaired != 0 || len(f.files(t, "two")) > 0 {
		t.Errorf("dry: %+v; on two: %q", dry, f.files(t, "two"))
	}
	f.seen.take()
	got := f.reconcile(t, cluster.ReconcileRequest{Repair: true})
	if got["two"].Repaired != 1 || got["two"].Err != nil || got["one"].Repaired != 0 {
		t.Errorf("reports %+v", got)
	}
	if lines := f.seen.take(); !slices.Contains(lines, "counted map[PARTIAL:0 READY:1]") && !slices.Contains(lines, "counted map[READY:1]") {
		t.Errorf("observed %q", lines)
	}
	f.twins(t, s.Name)
}

func TestRequestedRepairFillsANewBackendAndOnlyTheChosenOnes(t *testing.T) {
	f := newFixture(t)
	var names []string
	for range 3 {
		res, err := f.Save(t.Context(), cluster.SaveRequest{Backends: []string{"one"}})
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, res.Snapshot.Name)
	}
	f.clock.pass(time.Hour)
	f.mustRepair(t)
	f.reconcile(t, cluster.ReconcileRequest{Repair: true, Backends: []string{"one"}})
	if got := f.files(t, "two"); len(got) > 0 {
		t.Errorf("on two: %q", got)
	}
	if got := f.reconcile(t, cluster.ReconcileRequest{Repair: true, Backends: []string{"two"}}); got["two"].Repaired != 3 {
		t.Errorf("reports %+v", got)
	}
	for _, name := range names {
		f.twins(t, name)
		if l := f.records(t)[name].Locations(); l[0].Backend != "one" || l[1].Backend != "two" {
			t.Errorf("locations %+v", l)
		}
	}
	if got := f.reconcile(t, cluster.ReconcileRequest{Repair: true}); got["two"].Repaired+got["one"].Repaired != 0 {
		t.Errorf("again: %+v", got)
	}
}

// A copy that retention has removed, or would remove, is not brought back: not to a backend that is new, either.
func TestRequestedRepairMakesNoCopyThatRetentionRemoves(t *testing.T) {
	f := newFixture(t, keepLast(2)) // four on the other
	names := f.scheduled(t, 4)
	if _, err := f.Prune(t.Context(), cluster.PruneRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: names[1], Backends: []string{"one"}}); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		got := f.reconcile(t, cluster.ReconcileRequest{Repair: true, ValidateOnly: dry})
		if got["one"].Repaired != 1 || got["two"].Repaired != 0 {
			t.Errorf("dry run %t: %+v", dry, got)
		}
	}
	said, err := f.Prune(t.Context(), cluster.PruneRequest{ValidateOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := staying(t, said, "one"); !slices.Equal(got, names[:2]) || len(f.files(t, "one")) != 4 {
		t.Errorf("%q stay, and there is %q; want %q", got, f.files(t, "one"), names[:2])
	}
}

func TestWhatLiesInTheWayIsReplacedUnlessItIsGood(t *testing.T) {
	for what, spoil := range map[string]func(t *testing.T, f *fixture, name string){
		"truncated data": func(t *testing.T, f *fixture, name string) {
			if err := os.Truncate(f.path("two", name, ".db.zst"), 100); err != nil {
				t.Fatal(err)
			}
		},
		"no manifest": func(t *testing.T, f *fixture, name string) {
			if err := os.Remove(f.path("two", name, ".json")); err != nil {
				t.Fatal(err)
			}
		},
		"damaged manifest": func(t *testing.T, f *fixture, name string) {
			writeFile(t, f.path("two", name, ".json"), `{"formatVersion":`)
			f.forget(t, name) // or its listing shows nothing new
		},
		"a checksum in the manifest changed": func(t *testing.T, f *fixture, name string) {
			doc := strings.Replace(string(read(t, f.path("two", name, ".json"))), `"storedSha256": "`, `"storedSha256": "f`, 1)
			i := strings.Index(doc, `"storedSha256": "`) + len(`"storedSha256": "`) + 64
			writeFile(t, f.path("two", name, ".json"), doc[:i]+doc[i+1:])
			if err := os.Truncate(f.path("two", name, ".db.zst"), 100); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t)
			name := f.mustSave(t).Name
			spoil(t, f, name)
			if r := f.reconcile(t, cluster.ReconcileRequest{})["two"]; (what == "damaged manifest") != snapshot.IsDamage(r.Err) {
				t.Errorf("the report of the backend: %+v", r)
			}
			if rec := f.records(t)[name]; rec.State() != snapshot.StatePartial {
				t.Fatalf("before: %+v", rec)
			}
			f.clock.pass(snapshot.FirstRepair)
			f.mustRepair(t)
			f.twins(t, name)
		})
	}
}

func TestGoodCopyOfAnotherSnapshotIsNeverReplaced(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	other := newFixture(t)
	other.clock.now = f.clock.now
	other.stored.write()
	if got := other.mustSave(t).Name; got != name {
		t.Fatalf("the other one is %s, want %s", got, name)
	}
	if err := os.MkdirAll(filepath.Dir(f.path("two", name, "")), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{".db.zst", ".json"} {
		writeFile(t, f.path("two", name, suffix), string(read(t, other.path("two", name, suffix))))
	}
	f.mustReconcile(t)
	f.clock.pass(time.Hour)
	f.mustRepair(t)
	got := f.reconcile(t, cluster.ReconcileRequest{Repair: true})
	if snapshot.ReasonOf(got["two"].Err) != snapshot.ReasonConflict || got["two"].Repaired != 0 {
		t.Errorf("two: %+v", got["two"])
	}
	if !bytes.Equal(read(t, f.path("two", name, ".db.zst")), read(t, other.path("two", name, ".db.zst"))) {
		t.Error("it was replaced")
	}
}

// flip changes one byte of a copy; no listing shows it.
func (f *fixture) flip(t *testing.T, backend, name string) {
	t.Helper()
	b := read(t, f.path(backend, name, ".db.zst"))
	b[len(b)/2] ^= 1
	writeFile(t, f.path(backend, name, ".db.zst"), string(b))
}

func TestDamagedSourceIsFoundOutAndNothingOfItBecomesVisible(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	f.flip(t, "one", name)
	got := f.reconcile(t, cluster.ReconcileRequest{Repair: true})
	if snapshot.ReasonOf(got["one"].Err) != snapshot.ReasonChecksumMismatch || snapshot.ReasonOf(got["two"].Err) != snapshot.ReasonChecksumMismatch {
		t.Errorf("reports %+v", got)
	}
	if left := f.files(t, "two"); len(left) > 0 {
		t.Errorf("on two: %q", left)
	}
	for range 2 { // it stays so, though the listing shows a file of the right size
		rec := f.records(t)[name]
		if rec.State() != snapshot.StateFailed || rec.Location("one").State != snapshot.StateFailed || !strings.Contains(rec.Location("one").Error, "sha256") {
			t.Fatalf("record %+v", rec)
		}
		f.clock.pass(48 * time.Hour)
		f.mustReconcile(t)
	}
}

func TestNextSourceIsTriedAndTheDamagedOneHealsFromIt(t *testing.T) {
	f := newFixture(t)
	name := f.mustSave(t).Name
	f.flip(t, "one", name)
	three := t.TempDir()
	f.addBackend(t, "three", three)
	got := f.reconcile(t, cluster.ReconcileRequest{Repair: true})
	if got["three"].Repaired != 1 || snapshot.ReasonOf(got["one"].Err) != snapshot.ReasonChecksumMismatch {
		t.Errorf("reports %+v", got)
	}
	if rec := f.records(t)[name]; rec.State() != snapshot.StatePartial || rec.Location("one").State != snapshot.StateFailed {
		t.Errorf("record %+v", rec)
	}
	f.clock.pass(snapshot.FirstRepair)
	f.mustRepair(t)
	f.twins(t, name)
}

func TestAReadErrorIsNoDamage(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	f.backends["one"].get = func(key string) error {
		if strings.HasSuffix(key, ".zst") {
			return &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Backend: "one", Message: "cut"}
		}
		return nil
	}
	f.clock.pass(snapshot.FirstRepair)
	f.mustRepair(t)
	rec := f.records(t)[name]
	if rec.Location("one").State != snapshot.StateReady || rec.Repairs()[0].Attempts != 1 {
		t.Errorf("record %+v", rec)
	}
	f.backends["one"].get = nil
	f.clock.pass(2 * snapshot.FirstRepair)
	f.mustRepair(t)
	f.twins(t, name)
}

func TestTwoReplicasRepairTheSameCopyAtOnce(t *testing.T) {
	for range 5 {
		f := newFixture(t)
		name := f.partialSave(t, cluster.SaveRequest{})
		f.clock.pass(snapshot.FirstRepair)
		var at sync.WaitGroup
		at.Add(2)
		f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
			if strings.HasSuffix(key, ".zst") {
				at.Done()
				at.Wait() // both are about to write
			}
			return nil
		}
		var both sync.WaitGroup
		for _, c := range []*cluster.Cluster{f.replica(t), f.replica(t)} {
			both.Go(func() {
				if _, err := c.Repair(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		f.backends["two"].put = nil
		f.twins(t, name)
	}
}

func TestRepairThatDiesOnTheWayIsFinishedByTheNextOne(t *testing.T) {
	for _, suffix := range []string{".db.zst", ".json"} {
		f := newFixture(t)
		name := f.partialSave(t, cluster.SaveRequest{})
		f.clock.pass(snapshot.FirstRepair)
		ctx, die := context.WithCancel(t.Context())
		f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
			if strings.HasSuffix(key, name+suffix) {
				die()
				return context.Canceled
			}
			return nil
		}
		if _, err := f.Repair(ctx); snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
			t.Errorf("Repair: %v", err)
		}
		f.backends["two"].put = nil
		if rec := f.records(t)[name]; rec.State() != snapshot.StatePartial || len(rec.Repairs()) > 0 {
			t.Errorf("record %+v", rec)
		}
		f.Cluster = f.replica(t)
		f.mustReconcile(t)
		f.mustRepair(t)
		f.twins(t, name)
	}
}

func TestRepairThatCannotWriteTheCatalogIsFinishedByReconcile(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	f.clock.pass(snapshot.FirstRepair)
	f.catalog.fail = func(op string) error {
		if op == "update" {
			return errCatalogDown
		}
		return nil
	}
	if _, err := f.Repair(t.Context()); snapshot.ReasonOf(err) != snapshot.ReasonCatalogUnavailable {
		t.Errorf("Repair: %v", err)
	}
	f.catalog.fail = nil
	f.mustReconcile(t)
	if rec := f.records(t)[name]; rec.State() != snapshot.StateReady {
		t.Errorf("record %+v", rec)
	}
	f.agrees(t)
}

func TestRepairDoesNotWriteToAnotherStore(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	if err := os.Remove(f.dirs["two"] + "/" + snapshot.MarkerKey); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(snapshot.FirstRepair)
	f.mustRepair(t)
	if left := f.files(t, "two"); len(left) > 0 || f.records(t)[name].Repairs()[0].Attempts != 1 {
		t.Errorf("on two: %q", left)
	}
}

func TestFullTargetIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	full := true
	f.backends["two"].put = func(_ context.Context, key string, r io.Reader) error {
		if full && strings.HasSuffix(key, ".zst") {
			_, _ = io.CopyN(io.Discard, r, 100)
			return &snapshot.Error{Reason: snapshot.ReasonNoSpace, Backend: "two", Message: "no space left on device"}
		}
		return nil
	}
	f.clock.pass(snapshot.FirstRepair)
	next := f.mustRepair(t)
	full = false
	f.clock.pass(next.Sub(f.clock.Now()))
	f.mustRepair(t)
	f.twins(t, name)
}

// TestSnapshotDeletedWhileItIsRepairedStaysDeleted also holds that nothing is removed when only the record is gone.
func TestSnapshotDeletedWhileItIsRepairedStaysDeleted(t *testing.T) {
	for _, copiesToo := range []bool{true, false} {
		f := newFixture(t)
		name := f.partialSave(t, cluster.SaveRequest{})
		f.clock.pass(snapshot.FirstRepair)
		f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
			if strings.HasSuffix(key, name+".json") {
				f.forget(t, name)
				if copiesToo {
					return errors.Join(os.Remove(f.path("one", name, ".db.zst")), os.Remove(f.path("one", name, ".json")))
				}
			}
			return nil
		}
		f.mustRepair(t)
		f.backends["two"].put = nil
		if left := f.files(t, "two"); copiesToo && len(left) > 0 || !copiesToo && len(left) != 2 {
			t.Errorf("copies deleted %v: left on two: %q", copiesToo, left)
		}
		f.mustReconcile(t)
		if rec := f.records(t)[name]; copiesToo != (rec == nil) {
			t.Errorf("copies deleted %v: record %+v", copiesToo, rec)
		}
	}
}

// The other copies are about to go and are still there when the repair finds out.
func TestSnapshotThatIsBeingDeletedWhileItIsRepairedStaysDeleted(t *testing.T) {
	f := newFixture(t)
	name := f.partialSave(t, cluster.SaveRequest{})
	f.clock.pass(snapshot.FirstRepair)
	f.backends["one"].del = func(string) error { return errors.New("it takes its time") }
	f.backends["two"].put = func(_ context.Context, key string, _ io.Reader) error {
		if strings.HasSuffix(key, name+".json") {
			_, _ = f.Delete(t.Context(), cluster.DeleteRequest{Name: name})
		}
		return nil
	}
	f.mustRepair(t)
	if rec := f.records(t)[name]; rec.State() != snapshot.StateDeleting || len(f.files(t, "one")) != 2 {
		t.Fatalf("before the deletion goes on the record is %v, and one has %q", rec.State(), f.files(t, "one"))
	}
	f.backends["one"].del, f.backends["two"].put = nil, nil
	for range 2 {
		f.mustReconcile(t)
	}
	if rec, left := f.records(t)[name], f.files(t, "two"); rec != nil || len(left) > 0 {
		t.Errorf("it is there again: %+v, and two has %q", rec, left)
	}
}

func TestNoRepairBeginsWhileASaveRuns(t *testing.T) {
	f := newFixture(t)
	f.partialSave(t, cluster.SaveRequest{})
	f.clock.pass(snapshot.FirstRepair)
	<-f.RepairWanted()
	f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
		f.mustRepair(t)
		if got := f.seen.take(); len(got) > 0 {
			t.Errorf("observed %q", got)
		}
		return s, nil
	}
	f.mustSave(t)
	<-f.RepairWanted()
	f.seen.take()
	f.mustRepair(t)
	if got := f.seen.take(); !slices.Contains(got, "repair two success") {
		t.Errorf("observed %q", got)
	}
}
