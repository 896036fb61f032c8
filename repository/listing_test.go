package repository_test

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// under returns a repository with this prefix.
func under(prefix string) *place {
	return newPlace(func(c *repository.Config) { c.Prefix = prefix })
}

func listing(prefix string, keys []string, end error) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		for _, k := range keys {
			if !yield(repository.Object{Key: prefix + k, Size: 1}, nil) {
				return
			}
		}
		if end != nil {
			yield(repository.Object{}, end)
		}
	}
}

func collectGroups(t *testing.T, prefix string, keys []string) (got []*repository.Group, foreign []string) {
	t.Helper()
	slices.Sort(keys)
	list := listing(prefix, keys, nil)
	for g, err := range under(prefix).Groups(list, func(k string) { foreign = append(foreign, k) }) {
		must(t, err)
		got = append(got, g)
	}
	return got, foreign
}

func namesOf(groups []*repository.Group) []string {
	var names []string
	for _, g := range groups {
		names = append(names, g.Name)
	}
	return names
}

func TestGroupsGatherTheObjectsOfASnapshot(t *testing.T) {
	keys := []string{"a-1.db.zst", "a-1.json", "a.b.db", "a.b.json", "a.db", "a.json", "a.txt", "b.db", "c.json", "d"}
	got, foreign := collectGroups(t, "p/", keys)
	if want := []string{"a-1", "a.b", "a", "b", "c"}; !slices.Equal(namesOf(got), want) {
		t.Errorf("names %q, want %q", namesOf(got), want)
	}
	if want := []string{"p/a.txt", "p/d"}; !slices.Equal(foreign, want) {
		t.Errorf("foreign %q, want %q", foreign, want)
	}
	for _, g := range got {
		if whole := g.Manifest && len(g.Objects) == 1; whole != (g.Name != "b" && g.Name != "c") {
			t.Errorf("%s: whole %v", g.Name, whole)
		}
	}
	rec := &snapshot.Record{Snapshot: snapshot.Snapshot{Name: "a", Compression: snapshot.CompressionNone}}
	if o := under("p/").DataOf(got[2], rec); o == nil || o.Key != "p/a.db" {
		t.Errorf("the data of a is %+v", o)
	}
	if o := under("p/").DataOf(nil, rec); o != nil {
		t.Errorf("the data of no group is %+v", o)
	}
}

func TestGroupsLeaveTheMarkerOut(t *testing.T) {
	got, foreign := collectGroups(t, "", []string{snapshot.MarkerKey})
	if len(got) != 0 || len(foreign) != 0 {
		t.Errorf("groups %v, foreign %v", got, foreign)
	}
}

func TestGroupsEndWithTheListingsError(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		keys []string
		end  error
	}{{[]string{"a.db", "a.json"}, broken}, {[]string{"b.db", "a.db"}, nil}, {[]string{"a.db", "a.db"}, nil}} {
		var last error
		n := 0
		for _, err := range under("").Groups(listing("", c.keys, c.end), func(string) {}) {
			last = err
			n++
		}
		if last == nil || n != 1 || c.end != nil && !errors.Is(last, c.end) {
			t.Errorf("%v: %d elements, error %v", c.keys, n, last)
		}
	}
}

// FuzzGroupsAreInTheOrderOfTheCatalog makes names that begin with one another, with everything that sorts around '.',
// and checks that the groups come in the order in which the catalog scans, with nothing lost.
func FuzzGroupsAreInTheOrderOfTheCatalog(f *testing.F) {
	f.Add([]byte("a.b-c"), uint8(3))
	f.Add([]byte("x.json.db.zst.x"), uint8(9))
	f.Fuzz(func(t *testing.T, seed []byte, step uint8) {
		keys := map[string]bool{}
		for i := range seed {
			end := min(len(seed), i+1+int(step)%7)
			for _, s := range []string{"", ".zip", ".db", ".db.zst", ".json"} {
				keys[string(seed[i:end])+s] = true
			}
		}
		var sorted []string
		for k := range keys {
			sorted = append(sorted, k)
		}
		slices.Sort(sorted)
		objects := 0
		last := ""
		for g, err := range under("").Groups(listing("", sorted, nil), func(string) { objects++ }) {
			if err != nil {
				t.Fatal(err)
			}
			k := snapshot.OrderKey(g.Name)
			if cmp.Compare(k, last) <= 0 {
				t.Fatalf("%q came after %q", k, last)
			}
			last = k
			objects += len(g.Objects)
			if g.Manifest {
				objects++
			}
		}
		if want := len(sorted); objects != want && !keys[snapshot.MarkerKey] {
			t.Fatalf("%d of %d objects came out", objects, want)
		}
	})
}

// Files of K3s have no suffix or ".zip", which sort before and behind all suffixes of this program.
func TestGroupsTakeFilesOfK3sIn(t *testing.T) {
	keys := []string{
		"x-1700000000", "x-1700000000-1700000001.zip", "x-1700000000.k.db", "x-1700000000.l.db", "x-1700000000.zip",
		"notes.zip", "x",
	}
	got, foreign := collectGroups(t, "", keys)
	want := []string{"x-1700000000-1700000001", "x-1700000000.k", "x-1700000000.l", "x-1700000000"}
	if !slices.Equal(namesOf(got), want) {
		t.Errorf("names %q, want %q", namesOf(got), want)
	}
	if last := got[len(got)-1]; len(last.Objects) != 2 {
		t.Errorf("objects %v", last.Objects)
	}
	if want := []string{"notes.zip", "x"}; !slices.Equal(foreign, want) {
		t.Errorf("foreign %q, want %q", foreign, want)
	}
}

func TestAdoptableFiles(t *testing.T) {
	_, trust := newSigner(t)
	strict := newPlace(func(c *repository.Config) { c.Prefix, c.Trust = "p/", trust })
	for what, x := range map[string]struct {
		keys []string
		want string
	}{
		"of K3s":             {[]string{"x-1700000000"}, "p/x-1700000000"},
		"of K3s, compressed": {[]string{"x-1700000000.zip"}, "p/x-1700000000.zip"},
		"of etcdctl":         {[]string{"backup.db"}, "p/backup.db"},
		"two of one name":    {[]string{"x-1700000000", "x-1700000000.zip"}, ""},
		"with a manifest":    {[]string{"backup.db", "backup.json"}, ""},
		"of this program":    {[]string{"backup.db.zst"}, ""},
		"beside ours":        {[]string{"backup.db", "backup.db.zst"}, "p/backup.db"},
		"of no name":         {[]string{"-rf.db"}, ""},
	} {
		groups, _ := collectGroups(t, "p/", x.keys)
		got := ""
		if o := under("p/").Adoptable(groups[0]); o != nil {
			got = o.Key
		}
		if len(groups) != 1 || got != x.want {
			t.Errorf("%s: %q of %d groups, want %q", what, got, len(groups), x.want)
		}
		if o := strict.Adoptable(groups[0]); o != nil {
			t.Errorf("%s, where only signed snapshots are accepted: %+v", what, o)
		}
	}
}
