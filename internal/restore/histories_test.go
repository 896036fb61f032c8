package restore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A revision that two histories have is refused also when a manifest does not say that both of them hold it.
func TestRevisionOfTwoHistoriesIsRefusedWhereManifestsDoNotNameIt(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 61)
	h.Change(t, 60)
	short, revision := save(t, h.Etcd), h.Revision()-7
	h.Change(t, 60)
	long, between := save(t, h.Etcd), h.Revision()-7
	one, two := form{cluster: strings.Repeat("1", 16)}, form{cluster: strings.Repeat("2", 16)}
	old := func(f form) form { f.old = true; return f }
	for name, forms := range map[string][2]form{
		"the first of an older version":  {old(one), two},
		"the second of an older version": {one, old(two)},
		"both of an older version":       {old(one), old(two)},
		"begun again":                    {old(one), old(one)},
	} {
		b := memory.New("one", snapshot.BackendLocal)
		first, second := long.put(t, b, forms[0], 2*time.Hour), short.put(t, b, forms[1], time.Hour)
		_, err := restore.Plan(t.Context(), options(t, restore.Choice{Revision: revision}, b))
		if snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument || !strings.Contains(err.Error(), first) ||
			!strings.Contains(err.Error(), second) {
			t.Errorf("%s: %v", name, err)
		}
		// One that is in the first history alone is taken from there.
		res, err := restore.Plan(t.Context(), options(t, restore.Choice{Revision: between}, b))
		if err != nil || res.Snapshot.Name != first || res.Past.Revision != between || len(res.Skipped) > 0 {
			t.Errorf("%s, in one of them: %+v, %v", name, res, err)
		}
		e, _ := started(t, options(t, restore.Choice{Revision: between}, b))
		if got, want := e.At(t, between), h.At(t, between); got.Hash != want.Hash {
			t.Errorf("%s: it has the hash %+v, want %+v", name, got.Hash, want.Hash)
		}
		e.Close(t)
	}
}

// Files of other programs say nothing of their histories: the plan tells that there are some beside the one that is taken.
func TestSnapshotsThatMayBeOfAnotherHistoryAreTold(t *testing.T) {
	t.Parallel()
	h := embedded.NewHistory(t, 62)
	h.Change(t, 60)
	older, revision := save(t, h.Etcd), h.Revision()-7
	h.Change(t, 60)
	newer := save(t, h.Etcd)
	for name, tc := range map[string]struct {
		forms [2]form
		told  int
	}{
		"of another program, both":         {[2]form{{foreign: true}, {foreign: true}}, 1},
		"of another program, the older":    {[2]form{{foreign: true}, {}}, 1},
		"of another program, the newer":    {[2]form{{}, {foreign: true}}, 1},
		"with manifests":                   {[2]form{{}, {}}, 0},
		"with a manifest of an older kind": {[2]form{{}, {old: true}}, 0},
	} {
		b := memory.New("one", snapshot.BackendLocal)
		older.put(t, b, tc.forms[0], 2*time.Hour)
		newer.put(t, b, tc.forms[1], time.Hour)
		res, err := restore.Plan(t.Context(), options(t, restore.Choice{Revision: revision}, b))
		if err != nil || len(res.Skipped) != tc.told {
			t.Fatalf("%s: %v, %v", name, res.Skipped, err)
		}
		want := fmt.Sprintf("may hold another revision %d; give the NAME", revision)
		if tc.told > 0 && !strings.Contains(res.Skipped[0].Error(), want) {
			t.Errorf("%s: %v; it should say %q", name, res.Skipped[0], want)
		}
	}
}

// A snapshot of another program is compared with the journal that holds the revision, whatever its cluster.
func TestASnapshotWithoutAManifestIsComparedWithTheJournal(t *testing.T) {
	t.Parallel()
	f, other := newFaulted(t, 63), newFaulted(t, 64)
	target := max(f.bases[1], other.bases[1]) + 3
	for name, from := range map[string]*faulted{"the same history": f, "another history": other} {
		b := memory.New("one", snapshot.BackendLocal)
		for _, key := range f.backends[0].Keys() {
			if strings.Contains(key, "journal/") {
				b.Set(key, f.backends[0].Content(key))
			}
		}
		id := save(t, from.Etcd).put(t, b, form{foreign: true, suffix: ".db"}, time.Minute)
		res, err := restore.Plan(t.Context(), options(t, restore.Choice{Revision: target}, b))
		switch refused := snapshot.ReasonOf(err) == snapshot.ReasonInvalidArgument; {
		case from == other && (!refused || !strings.Contains(err.Error(), string(f.timeline))):
			t.Errorf("%s: %+v, %v", name, res, err)
		case from == f && (err != nil || res.Snapshot.Name != id || res.Past.Revision != target):
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}
