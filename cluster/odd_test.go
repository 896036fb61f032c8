package cluster_test

import (
	"errors"
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

// crowded returns a cluster that keeps two snapshots on "two" and has five there, newest first, and a leftover of a
// crash.
func crowded(t *testing.T) (f *fixture, names []string, leftover string) {
	t.Helper()
	f = newFixture(t, func(c *cluster.Config) { c.Retention = map[string]retention.Rules{"two": {KeepLast: 2}} })
	names = f.scheduled(t, 5)
	leftover = f.plant(t, "two", "x-n-1700000000.db.zst.0a1b.tmp", []byte("half"))
	f.clock.pass(3 * time.Hour)
	return f, names, leftover
}

// on returns which of some snapshots have their data on a backend.
func (f *fixture) on(t *testing.T, backend string, names []string) (there []string) {
	t.Helper()
	for _, name := range names {
		if _, err := os.Stat(f.path(backend, name, ".db.zst")); err == nil {
			there = append(there, name)
		}
	}
	return there
}

// An object that nobody can read may be there for years: another program's file, one of a cold storage class, a manifest
// that was cut. It is told of at each reconcile. The disk fills up if nothing is pruned or swept beside it.
func TestAnOddObjectKeepsNothingElseFromBeingPrunedAndSwept(t *testing.T) {
	unreadable := func(t *testing.T, f *fixture, why *snapshot.Error) {
		t.Helper()
		f.plant(t, "two", k3sFile, f.etcdctl(t))
		f.backends["two"].get = func(key string) error {
			if strings.HasSuffix(key, k3sFile) {
				return why.On("two")
			}
			return nil
		}
	}
	for what, tc := range map[string]struct {
		spoil func(t *testing.T, f *fixture, names []string)
		stay  []int // of the names
	}{
		"a file that nobody may read": {func(t *testing.T, f *fixture, _ []string) {
			t.Helper()
			unreadable(t, f, snapshot.ReasonBackendAccessDenied.New("get it"))
		}, []int{0, 1}},
		"a file that is larger than the spool": {func(t *testing.T, f *fixture, _ []string) {
			t.Helper()
			unreadable(t, f, snapshot.ReasonNoSpace.New("spool it"))
		}, []int{0, 1}},
		"a manifest that was cut": {func(t *testing.T, f *fixture, names []string) {
			t.Helper()
			writeFile(t, f.path("two", names[1], ".json"), "{")
		}, []int{0, 1, 2}}, // it is no snapshot, and stays
	} {
		t.Run(what, func(t *testing.T) {
			f, names, leftover := crowded(t)
			tc.spoil(t, f, names)
			for range 2 {
				if err := f.Maintain(t.Context()); err == nil || !strings.Contains(err.Error(), `backend "two" was reconciled but for some objects`) {
					t.Errorf("it is told of as %v", err)
				}
				if f.seen.results["two"] == nil || f.seen.unseen["two"] {
					t.Errorf("the event has %v; as a whole: %v", f.seen.results, f.seen.unseen)
				}
			}
			var stay []string
			for _, i := range tc.stay {
				stay = append(stay, names[i])
			}
			if got := f.on(t, "two", names); !slices.Equal(got, stay) {
				t.Errorf("%q are left, want %q", got, stay)
			}
			if got := f.on(t, "one", names); len(got) != len(names) {
				t.Errorf("one, which keeps all, has %q", got)
			}
			if _, err := os.Stat(leftover); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the leftover was not swept: %v", err)
			}
		})
	}
}

// A listing that breaks off shows neither what there is nor what is missing.
func TestABackendThatWasNotListedToItsEndIsNeitherPrunedNorSwept(t *testing.T) {
	f, names, leftover := crowded(t)
	listings := 0
	f.backends["two"].list = func(o repository.Object) error {
		if strings.HasSuffix(o.Key, names[0]+".json") {
			if listings++; listings == 1 { // a prune would list again
				return errBroken
			}
		}
		return nil
	}
	if err := f.Maintain(t.Context()); err == nil || !strings.Contains(err.Error(), `backend "two" was not reconciled`) {
		t.Errorf("it is told of as %v", err)
	}
	if f.seen.results["two"] == nil || !f.seen.unseen["two"] || f.seen.unseen["one"] {
		t.Errorf("the event has %v; as a whole: %v", f.seen.results, f.seen.unseen)
	}
	if got := f.on(t, "two", names); listings != 1 || len(got) != len(names) {
		t.Errorf("%d listings, and %q are left", listings, got)
	}
	if _, err := os.Stat(leftover); err != nil {
		t.Error(err)
	}
}

// What a manifest has confirmed to retention counts no more when it was written anew and cannot be read.
func TestACopyWhoseManifestCannotBeReadMakesNoOtherOneGo(t *testing.T) {
	f, names, _ := crowded(t)
	if err := f.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	newest := f.scheduled(t, 1)[0]
	manifest := f.path("two", names[0], ".json")
	later := f.clock.Now()
	if err := os.Chtimes(manifest, later, later); err != nil {
		t.Fatal(err)
	}
	f.backends["two"].get = func(key string) error {
		if strings.HasSuffix(key, names[0]+".json") {
			return snapshot.ReasonBackendAccessDenied.New("get it").On("two")
		}
		return nil
	}
	if err := f.Maintain(t.Context()); snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied {
		t.Errorf("it is told of as %v", err)
	}
	if got, want := f.on(t, "two", append(names, newest)), []string{names[0], names[1], newest}; !slices.Equal(got, want) {
		t.Errorf("%q are left, want %q", got, want)
	}
	f.backends["two"].get = nil
	if err := f.Maintain(t.Context()); err != nil {
		t.Error(err)
	}
	if got, want := f.on(t, "two", append(names, newest)), []string{names[0], newest}; !slices.Equal(got, want) {
		t.Errorf("once it can be read, %q are left, want %q", got, want)
	}
}

func TestVerifyNamesALevelThatIsNone(t *testing.T) {
	f := newFixture(t)
	_, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: f.mustSave(t).Name, Level: 9})
	if snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument || !strings.Contains(err.Error(), "level: 9 is none of") {
		t.Errorf("Verify: %v", err)
	}
}
