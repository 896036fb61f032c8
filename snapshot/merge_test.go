package snapshot

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"testing"
)

func listing(prefix string, keys []string, end error) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for _, k := range keys {
			if !yield(Object{Key: prefix + k, Size: 1}, nil) {
				return
			}
		}
		if end != nil {
			yield(Object{}, end)
		}
	}
}

func collectGroups(t *testing.T, prefix string, keys []string) (got []*group, foreign []string) {
	t.Helper()
	for g, err := range groups(prefix, listing(prefix, keys, nil), func(k string) { foreign = append(foreign, k) }) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, g)
	}
	return got, foreign
}

func TestGroupsGatherTheObjectsOfASnapshot(t *testing.T) {
	keys := []string{"a-1.db.zst", "a-1.json", "a.b.db", "a.b.json", "a.db", "a.json", "a.txt", "b.db", "c.json", "d"}
	slices.Sort(keys)
	got, foreign := collectGroups(t, "p/", keys)
	var names []string
	for _, g := range got {
		names = append(names, g.name)
	}
	if want := []string{"a-1", "a.b", "a", "b", "c"}; !slices.Equal(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
	if want := []string{"p/a.txt", "p/d"}; !slices.Equal(foreign, want) {
		t.Errorf("foreign %q, want %q", foreign, want)
	}
	for _, g := range got {
		if whole := g.manifest && len(g.objects) == 1; whole != (g.name != "b" && g.name != "c") {
			t.Errorf("%s: whole %v", g.name, whole)
		}
	}
}

func TestGroupsLeaveTheMarkerOut(t *testing.T) {
	got, foreign := collectGroups(t, "", []string{MarkerKey})
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
		for _, err := range groups("", listing("", c.keys, c.end), func(string) {}) {
			last = err
			n++
		}
		if last == nil || n != 1 || c.end != nil && !errors.Is(last, c.end) {
			t.Errorf("%v: %d elements, error %v", c.keys, n, last)
		}
	}
}

// FuzzGroupsAreInTheOrderOfTheCatalog makes names that begin with one another, with all that sorts around '.', and holds
// that the groups come in the order in which the catalog scans, with nothing lost.
func FuzzGroupsAreInTheOrderOfTheCatalog(f *testing.F) {
	f.Add([]byte("a.b-c"), uint8(3))
	f.Add([]byte("x.json.db.zst.x"), uint8(9))
	f.Fuzz(func(t *testing.T, seed []byte, step uint8) {
		keys := map[string]bool{}
		names := map[string]bool{}
		for i := range seed {
			end := min(len(seed), i+1+int(step)%7)
			name := string(seed[i:end])
			names[name] = true
			for _, s := range []string{"", zipSuffix, dataSuffix, zstdSuffix, manifestSuffix} {
				keys[name+s] = true
			}
		}
		var sorted []string
		for k := range keys {
			sorted = append(sorted, k)
		}
		slices.Sort(sorted)
		objects := 0
		last := ""
		for g, err := range groups("", listing("", sorted, nil), func(string) { objects++ }) {
			if err != nil {
				t.Fatal(err)
			}
			if k := OrderKey(g.name); cmp.Compare(k, last) <= 0 {
				t.Fatalf("%q came after %q", k, last)
			} else {
				last = k
			}
			objects += len(g.objects)
			if g.manifest {
				objects++
			}
		}
		if want := len(sorted); objects != want && !keys[MarkerKey] {
			t.Fatalf("%d of %d objects came out", objects, want)
		}
	})
}

// What K3s writes has no suffix or ".zip", which sort before and behind all that is ours.
func TestGroupsTakeFilesOfK3sIn(t *testing.T) {
	keys := []string{"x-1700000000", "x-1700000000-1700000001.zip", "x-1700000000.k.db", "x-1700000000.l.db", "x-1700000000.zip", "notes.zip", "x"}
	slices.Sort(keys)
	got, foreign := collectGroups(t, "", keys)
	var names []string
	for _, g := range got {
		names = append(names, g.name)
	}
	if want := []string{"x-1700000000-1700000001", "x-1700000000.k", "x-1700000000.l", "x-1700000000"}; !slices.Equal(names, want) {
		t.Errorf("names %q, want %q", names, want)
	}
	if last := got[len(got)-1]; len(last.objects) != 2 {
		t.Errorf("objects %v", last.objects)
	}
	if want := []string{"notes.zip", "x"}; !slices.Equal(foreign, want) {
		t.Errorf("foreign %q, want %q", foreign, want)
	}
}
