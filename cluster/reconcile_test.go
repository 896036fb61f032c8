package cluster_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// counts are the numbers of a report.
func counts(r cluster.BackendReport) cluster.BackendReport {
	r.Cluster, r.Backend, r.Err = "", "", nil
	return r
}

// quiet asserts that another reconcile changes nothing.
func (f *fixture) quiet(t *testing.T) {
	t.Helper()
	before := f.records(t)
	f.catalog.writes = nil
	for name, r := range f.mustReconcile(t) {
		if r.Added+r.Updated+r.Removed+r.Swept > 0 {
			t.Errorf("second run on %s: %+v", name, r)
		}
	}
	if len(f.catalog.writes) > 0 || !reflect.DeepEqual(f.records(t), before) {
		t.Errorf("second run wrote %q", f.catalog.writes)
	}
}

func TestReconcileRebuildsALostCatalog(t *testing.T) {
	f := newFixture(t)
	var names []string
	for range 3 {
		names = append(names, f.mustSave(t).Name)
	}
	want := f.records(t)
	f.forget(t, names...)
	reports := f.mustReconcile(t)
	for _, b := range []string{"one", "two"} {
		if got, want := counts(reports[b]), (cluster.BackendReport{Listed: 3, Added: 3}); got != want {
			t.Errorf("%s: %+v, want %+v", b, got, want)
		}
	}
	got := f.records(t)
	for name, rec := range got {
		for _, r := range []*snapshot.Record{rec, want[name]} {
			r.Version, r.Etag, r.Duration = 0, "", 0
			for i := range r.Locations() {
				r.Locations()[i].UpdateTime = time.Time{}
			}
		}
		if !reflect.DeepEqual(rec, want[name]) {
			t.Errorf("rebuilt\n%+v\nwas\n%+v", rec, want[name])
		}
	}
	if len(got) != 3 {
		t.Errorf("%d records", len(got))
	}
	f.quiet(t)
}

func TestReconcileKnowsEverythingWithoutARequestPerObject(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		f.mustSave(t)
	}
	f.backends["one"].gets.Store(0)
	f.mustReconcile(t)
	if n := f.backends["one"].gets.Load(); n != 1 {
		t.Errorf("%d objects were read; only the marker should be", n)
	}
	f.quiet(t)
}

func TestReconcileFollowsWhatWasDoneByHand(t *testing.T) {
	f := newFixture(t)
	kept, half, gone, renamed, cut, bare := f.mustSave(t).Name, f.mustSave(t).Name, f.mustSave(t).Name, f.mustSave(t).Name, f.mustSave(t).Name, f.mustSave(t).Name
	f.clock.pass(2 * time.Minute)
	remove := func(paths ...string) {
		for _, p := range paths {
			if err := os.Remove(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove(f.path("two", half, ".db.zst"), f.path("two", half, ".json"))
	for _, b := range []string{"one", "two"} {
		remove(f.path(b, gone, ".db.zst"), f.path(b, gone, ".json"))
	}
	for _, s := range []string{".db.zst", ".json"} {
		if err := os.Rename(f.path("two", renamed, s), f.path("two", "renamed", s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(f.path("two", cut, ".db.zst"), 100); err != nil {
		t.Fatal(err)
	}
	remove(f.path("two", bare, ".json"))
	writeFile(t, f.path("two", "notes", ".txt"), "x")
	writeFile(t, f.path("two", "backup", ".db"), "x")

	dry := f.reconcile(t, cluster.ReconcileRequest{ValidateOnly: true})
	if got := f.records(t); len(got) != 6 || got[half].State() != snapshot.StateReady {
		t.Errorf("validate_only changed the catalog: %v", got)
	}
	reports := f.mustReconcile(t)
	want := map[string]cluster.BackendReport{
		"one": {Listed: 5, Unchanged: 5, Removed: 1},
		"two": {Listed: 2, Unchanged: 1, Updated: 2, Removed: 3, Foreign: 4},
	}
	for b, w := range want {
		if got := counts(reports[b]); got != w {
			t.Errorf("%s: %+v, want %+v", b, got, w)
		}
		if got := counts(dry[b]); got != w {
			t.Errorf("%s, validate_only: %+v, want %+v", b, got, w)
		}
	}
	recs := f.records(t)
	states := map[string]snapshot.State{kept: snapshot.StateReady, half: snapshot.StateReady, renamed: snapshot.StateReady, cut: snapshot.StatePartial, bare: snapshot.StatePartial}
	for name, state := range states {
		if recs[name] == nil || recs[name].State() != state || recs[name].Location("one").State != snapshot.StateReady {
			t.Errorf("%s: %+v, want %s", name, recs[name], state)
		}
	}
	if len(recs) != len(states) || len(recs[half].Locations()) != 1 || !strings.Contains(recs[cut].ErrorText(), "100 bytes instead of") || !strings.Contains(recs[bare].ErrorText(), "manifest is missing") {
		t.Errorf("records %+v", recs)
	}
	f.quiet(t)

	// What lost its manifest is still a good copy, however old it gets.
	f.clock.pass(48 * time.Hour)
	f.quiet(t)
	if _, err := os.Stat(f.path("two", bare, ".db.zst")); err != nil {
		t.Error(err)
	}
	// And a copy that is put right again is READY again.
	writeFile(t, f.path("two", bare, ".json"), string(read(t, f.path("one", bare, ".json"))))
	writeFile(t, f.path("two", cut, ".db.zst"), string(read(t, f.path("one", cut, ".db.zst"))))
	if r := f.mustReconcile(t)["two"]; r.Updated != 2 {
		t.Errorf("after putting it right: %+v", r)
	}
	for _, name := range []string{cut, bare} {
		if rec := f.records(t)[name]; rec.State() != snapshot.StateReady || rec.ErrorText() != "" {
			t.Errorf("%s: %+v", name, rec)
		}
	}
	f.quiet(t)
}

// TestReconcileForgetsNothingWhenABackendFails takes a backend away in every way; the records must stay as they are.
func TestReconcileForgetsNothingWhenABackendFails(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, f *fixture){
		"unmounted": func(t *testing.T, f *fixture) {
			t.Helper()
			if err := os.Rename(f.dirs["two"], f.dirs["two"]+".away"); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(f.dirs["two"], 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"directory gone": func(t *testing.T, f *fixture) {
			t.Helper()
			if err := os.Rename(f.dirs["two"], f.dirs["two"]+".away"); err != nil {
				t.Fatal(err)
			}
		},
		"another store's marker": func(t *testing.T, f *fixture) {
			t.Helper()
			writeFile(t, filepath.Join(f.dirs["two"], snapshot.MarkerKey), `{"formatVersion":1,"storeId":"another"}`)
		},
		"listing refused": func(_ *testing.T, f *fixture) {
			f.backends["two"].list = func(repository.Object) error { return errBroken }
		},
		"listing dies half-way": func(_ *testing.T, f *fixture) {
			n := 0
			f.backends["two"].list = func(repository.Object) error {
				if n++; n > 3 {
					return errBroken
				}
				return nil
			}
		},
		"unmounted while it is listed": func(_ *testing.T, f *fixture) {
			f.backends["two"].list = func(repository.Object) error {
				_ = os.Rename(f.dirs["two"], f.dirs["two"]+".away")
				_ = os.Mkdir(f.dirs["two"], 0o700)
				return nil
			}
			if err := os.Remove(f.path("two", f.oldest, ".db.zst")); err != nil {
				panic(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			f := newFixture(t, func(c *cluster.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			f.oldest = f.mustSave(t).Name
			f.mustSave(t)
			f.mustSave(t)
			f.clock.pass(time.Hour)
			f.seen.take()
			before := f.records(t)
			spoil(t, f)
			reports := f.reconcile(t, cluster.ReconcileRequest{})
			if reports["one"].Err != nil || reports["one"].Unchanged != 3 {
				t.Errorf("one: %+v", reports["one"])
			}
			if reports["two"].Err == nil {
				t.Errorf("two: %+v, want an error", reports["two"])
			}
			if got := f.records(t); !reflect.DeepEqual(got, before) {
				t.Errorf("records\n%v\nbefore\n%v", got, before)
			}
			if !strings.Contains(log.String(), `level=WARN msg="reconciled without all backends"`) || strings.Contains(log.String(), "msg=reconciled ") {
				t.Errorf("the log says\n%s", &log)
			}
			got := f.seen.take()
			for _, want := range []string{"list local error", "list local success", "reconcile error"} {
				if !slices.Contains(got, want) && name != "unmounted while it is listed" {
					t.Errorf("observed %q, want %q", got, want)
				}
			}
		})
	}
}

// TestReconcileSettlesASaveWhoseOwnerDied leaves a record SAVING with every combination of what a crash can leave.
func TestReconcileSettlesASaveWhoseOwnerDied(t *testing.T) {
	for _, c := range []struct {
		name     string
		one, two string // what is there: "", "data", "whole"
		state    snapshot.State
		swept    int64 // on both, once they are old
	}{
		{"nothing", "", "", snapshot.StateFailed, 0},
		{"data on one", "data", "", snapshot.StateFailed, 1},
		{"data on both", "data", "data", snapshot.StateFailed, 2},
		{"one is whole", "whole", "data", snapshot.StatePartial, 1},
		{"two is whole", "", "whole", snapshot.StatePartial, 0},
		{"both are whole", "whole", "whole", snapshot.StateReady, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			s := f.mustSave(t)
			rec := f.records(t)[s.Name]
			rec = forge(rec, func(st *snapshot.Status, b *snapshot.Bookkeeping) {
				st.State, b.Owner = snapshot.StateSaving, "node-1/dead"
				for i := range st.Locations {
					st.Locations[i].State, st.Locations[i].Size = snapshot.StateSaving, 0
				}
			})
			rec.Revision, rec.StoredSHA256, rec.SHA256, rec.StoredSize = 0, "", "", 0
			if err := f.catalog.Catalog.Update(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
			for b, there := range map[string]string{"one": c.one, "two": c.two} {
				if there != "whole" {
					_ = os.Remove(f.path(b, s.Name, ".json"))
				}
				if there == "" {
					_ = os.Remove(f.path(b, s.Name, ".db.zst"))
				}
			}

			lock, err := f.catalog.Catalog.Lock(t.Context(), "node-1/dead")
			if err != nil {
				t.Fatal(err)
			}
			f.quiet(t) // the owner is alive
			lock.Unlock(t.Context())

			f.mustReconcile(t)
			got := f.records(t)[s.Name]
			if got == nil || got.State() != c.state {
				t.Fatalf("record %+v, want %s", got, c.state)
			}
			if c.state != snapshot.StateFailed && (got.Revision != s.Revision || got.StoredSHA256 != s.StoredSHA256) {
				t.Errorf("record %+v, want what the manifest says", got)
			}
			if c.state == snapshot.StateFailed && !strings.Contains(got.ErrorText(), "node-1/dead") {
				t.Errorf("error %q", got.ErrorText())
			}
			f.quiet(t)

			f.clock.pass(2 * time.Hour)
			reports := f.mustReconcile(t)
			if n := reports["one"].Swept + reports["two"].Swept; n != c.swept {
				t.Errorf("swept %d, want %d", n, c.swept)
			}
			f.clock.pass(48 * time.Hour)
			f.mustReconcile(t)
			if _, kept := f.records(t)[s.Name]; kept != (c.state != snapshot.StateFailed) {
				t.Errorf("after two days the record is kept: %v", kept)
			}
			left := len(f.files(t, "one")) + len(f.files(t, "two"))
			if want := map[snapshot.State]int{snapshot.StateFailed: 0, snapshot.StatePartial: 2, snapshot.StateReady: 4}[c.state]; left != want {
				t.Errorf("%d files are left, want %d", left, want)
			}
			f.quiet(t)
		})
	}
}

// A backend that is configured no more is not spoken of, unless it is all that there was; one that comes back is taken
// in.
func TestReconcileForgetsBackendsThatAreConfiguredNoMore(t *testing.T) {
	f := newFixture(t)
	both := f.mustSave(t)
	f.clock.pass(2 * time.Second)
	one, err := f.Save(t.Context(), cluster.SaveRequest{Backends: []string{"one"}})
	if err != nil {
		t.Fatal(err)
	}
	f.clock.pass(time.Hour)
	later := f.replica(t, func(c *cluster.Config) { c.Backends = c.Backends[1:] })
	for range 2 {
		if _, err := later.Reconcile(t.Context(), cluster.ReconcileRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	rec := f.records(t)[both.Name]
	if len(rec.Locations()) != 1 || rec.Locations()[0].Backend != "two" || rec.State() != snapshot.StateReady {
		t.Errorf("the record of what is on the backend that is left: %+v", rec)
	}
	if rec := f.records(t)[one.Snapshot.Name]; rec == nil || rec.Location("one") == nil {
		t.Errorf("the record of what is nowhere else: %+v", rec)
	}
	f.mustReconcile(t)
	if rec := f.records(t)[both.Name]; len(rec.Locations()) != 2 || rec.State() != snapshot.StateReady {
		t.Errorf("after the backend came back: %+v", rec)
	}
}

func TestReconcileKeepsAYoungRecordWithoutLocations(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	for _, b := range []string{"one", "two"} {
		for _, suffix := range []string{".db.zst", ".json"} {
			if err := os.Remove(f.path(b, s.Name, suffix)); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.mustReconcile(t)
	if f.records(t)[s.Name] == nil {
		t.Error("a record younger than a minute was removed")
	}
	f.clock.pass(2 * time.Minute)
	f.mustReconcile(t)
	if f.records(t)[s.Name] != nil {
		t.Error("the record of a snapshot that is nowhere was kept")
	}
}

func TestReconcileReportsACatalogThatFails(t *testing.T) {
	f := newFixture(t)
	names := []string{f.mustSave(t).Name, f.mustSave(t).Name}
	f.forget(t, names...)
	f.catalog.fail = func(op string) error {
		if op == "create" {
			return errCatalogDown
		}
		return nil
	}
	_, err := f.Reconcile(t.Context(), cluster.ReconcileRequest{})
	if snapshot.ReasonOf(err) != snapshot.ReasonCatalogUnavailable {
		t.Errorf("Reconcile: %v", err)
	}
	if got := f.seen.take(); !slices.Contains(got, "reconcile error") {
		t.Errorf("observed %q", got)
	}
}

func TestReconcilesAndASaveAtOnceAgree(t *testing.T) {
	f := newFixture(t)
	for range 5 {
		f.mustSave(t)
	}
	names := slices.Collect(maps.Keys(f.records(t)))
	f.forget(t, names...)
	other := f.replica(t, func(c *cluster.Config) { c.Node = "node-2" })
	var wg sync.WaitGroup
	for _, c := range []*cluster.Cluster{f.Cluster, other, f.Cluster} {
		wg.Go(func() {
			if _, err := c.Reconcile(t.Context(), cluster.ReconcileRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if _, err := other.Save(t.Context(), cluster.SaveRequest{}); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	recs := f.records(t)
	for _, rec := range recs {
		if rec.State() != snapshot.StateReady || len(rec.Locations()) != 2 {
			t.Errorf("record %+v", rec)
		}
	}
	if len(recs) != 6 {
		t.Errorf("%d records", len(recs))
	}
	f.quiet(t)
}

// TestReconcileTellsTheTruthWhateverHappens plays random histories and holds after each reconcile: every snapshot that
// is whole on a backend is in the catalog as READY there, and the catalog shows nothing READY that is not.
func TestReconcileTellsTheTruthWhateverHappens(t *testing.T) {
	f := newFixture(t)
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 0))
		for range 12 {
			f.play(t, r)
			f.clock.pass(time.Duration(r.IntN(90)) * time.Minute)
			f.mustReconcile(t)
			f.agrees(t)
			f.quiet(t)
		}
	}
}

// play does one random thing.
func (f *fixture) play(t *testing.T, r *rand.Rand) {
	t.Helper()
	b := []string{"one", "two"}[r.IntN(2)]
	names := slices.Sorted(maps.Keys(f.records(t)))
	pick := func() string { return names[r.IntN(len(names))] }
	defer func() {
		for _, h := range f.backends {
			h.put = nil
		}
	}()
	switch what := r.IntN(7); {
	case what < 2 || len(names) == 0:
		_, _ = f.Save(t.Context(), cluster.SaveRequest{})
	case what == 2:
		f.backends[b].put = func(_ context.Context, key string, _ io.Reader) error {
			if r.IntN(2) == 0 || strings.HasSuffix(key, ".db.zst") {
				return errBroken
			}
			return nil
		}
		_, _ = f.Save(t.Context(), cluster.SaveRequest{})
	case what == 3:
		f.forget(t, pick())
	case what == 4:
		_ = os.Remove(f.path(b, pick(), ".db.zst"))
	case what == 5:
		_ = os.Remove(f.path(b, pick(), ".json"))
	case what == 6:
		_ = os.Truncate(f.path(b, pick(), ".db.zst"), int64(r.IntN(50)))
	}
}

// agrees compares the catalog with the files.
func (f *fixture) agrees(t *testing.T) {
	t.Helper()
	recs := f.records(t)
	for _, b := range []string{"one", "two"} {
		whole := map[string]bool{}
		for _, path := range f.files(t, b) {
			name, ok := strings.CutSuffix(filepath.Base(path), ".json")
			if !ok {
				continue
			}
			info, err := os.Stat(f.path(b, name, ".db.zst"))
			whole[name] = err == nil && info.Size() > 50
			if whole[name] && recs[name] == nil {
				t.Errorf("%s is whole on %s and was lost", name, b)
			}
		}
		for name, rec := range recs {
			l := rec.Location(b)
			if ready := l != nil && l.State == snapshot.StateReady; ready != whole[name] {
				t.Errorf("%s on %s: ready %v, whole %v: %+v", name, b, ready, whole[name], rec)
			}
		}
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A caller that gives up, or a replica that stops, is no fault of the backends. One that takes too long is.
func TestAReconcileThatIsCancelledTellsNothingOfTheBackends(t *testing.T) {
	f := newFixture(t)
	f.mustSave(t)
	cancelled, cancel := context.WithCancel(t.Context())
	late, done := context.WithDeadline(t.Context(), time.Now())
	defer done()
	f.backends["one"].list = func(repository.Object) error {
		cancel()
		return nil
	}
	for name, c := range map[string]struct {
		ctx  context.Context
		told int
	}{"cancelled": {cancelled, 0}, "its time is over": {late, 2}, "another one": {t.Context(), 2}} {
		f.seen.results = nil
		if _, err := f.Reconcile(c.ctx, cluster.ReconcileRequest{}); (err == nil) != (c.ctx == t.Context()) {
			t.Errorf("%s: it ends with %v", name, err)
		}
		if len(f.seen.results) != c.told {
			t.Errorf("%s: it tells of the backends %v, want of %d", name, f.seen.results, c.told)
		}
		for backend, err := range f.seen.results {
			if (err == nil) != (c.ctx == t.Context()) {
				t.Errorf("%s: on %s it has ended with %v", name, backend, err)
			}
		}
	}
}
