package restore_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestProofComparesTheJournalWithTheNextSnapshot(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 21)
	f.Change(t, 5)
	f.sync(t)
	f.Compact(t, f.Revision()-7)
	f.seal(t)
	third, revision := f.save(t, f.backends[0], f.backends[1])
	repo := repository.New(repository.Config{Backend: f.backends[0], Prefix: "default/"})
	o := restore.VerifyOptions{
		Repository: repo, Choice: restore.Choice{Name: third}, Dir: t.TempDir(), Driller: &embedded.Driller{TB: t},
	}
	p, err := restore.Prove(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if p.Snapshot.Name != third || p.Base.Name != f.names[1] || p.Replayed.Base != f.bases[1] || p.Replayed.Revision != revision ||
		len(p.Replayed.Segments) != 5 || p.HashKV == 0 || p.CompactRevision != revision-7 || p.TotalKeys == 0 {
		t.Errorf("%+v of %+v", p, p.Replayed)
	}
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// The first one has no journal before it.
	o.Choice = restore.Choice{Name: f.names[0]}
	if _, err := restore.Prove(t.Context(), o); snapshot.ReasonOf(err) != snapshot.ReasonRevisionNotFound {
		t.Errorf("without a journal: %v", err)
	}
	// A journal that has something else than the cluster wrote is found out.
	forge(t, f, f.sealed[len(f.sealed)-2])
	o.Choice = restore.Choice{Name: third}
	_, err = restore.Prove(t.Context(), o)
	if snapshot.ReasonOf(err) != snapshot.ReasonSnapshotUnreadable || !strings.Contains(err.Error(), "does not lead from") {
		t.Errorf("a forged journal: %v", err)
	}
}

// Damage elsewhere, or a backend that does not answer, is no verdict on the journal.
func TestOnlyWhatTheJournalHasLostIsAVerdictOnIt(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 22)
	third, _ := f.save(t, f.backends[0], f.backends[1])
	var repos [2]*repository.Repository
	for i, b := range f.backends {
		repos[i] = repository.New(repository.Config{Backend: b, Prefix: "default/"})
	}
	o := restore.VerifyOptions{
		Repository: repos[0], Others: repos[1:], Choice: restore.Choice{Name: third}, Dir: t.TempDir(), Driller: &embedded.Driller{TB: t},
	}
	prove := func(when string, reason snapshot.Reason, verdict bool) {
		t.Helper()
		_, err := restore.Prove(t.Context(), o)
		if snapshot.ReasonOf(err) != reason || restore.IsVerdict(err) != verdict {
			t.Errorf("%s, it is a verdict: %t; %v", when, restore.IsVerdict(err), err)
		}
	}
	tear := func(_ string, content []byte) []byte { return content[:len(content)/2] }

	whole := map[string][]byte{}
	for _, name := range f.names {
		for i, b := range f.backends {
			key := "default/" + name + ".db"
			whole[fmt.Sprint(i, key)] = b.Content(key)
			b.Set(key, tear(key, b.Content(key)))
		}
	}
	prove("with damaged snapshots before", snapshot.ReasonRevisionNotFound, false)
	for _, name := range f.names {
		for i, b := range f.backends {
			key := "default/" + name + ".db"
			b.Set(key, whole[fmt.Sprint(i, key)])
		}
	}
	for _, b := range f.backends {
		f.spoil(t, b, f.bases[1]+20, tear)
	}
	prove("with a damaged segment", snapshot.ReasonChecksumMismatch, true)
	f.backends[1].Vanish()
	prove("with a damaged segment, while the other backend does not answer", snapshot.ReasonChecksumMismatch, false)
}

// forge writes the segments from one on anew, in which the value of its first record is another one.
func forge(t *testing.T, f *faulted, from segment.Header) {
	t.Helper()
	p := f.places[0]
	h := from
	for _, sealed := range f.sealed {
		if sealed.First < from.First {
			continue
		}
		entries := entriesOf(t, p, sealed)
		if sealed.First == from.First {
			for i, e := range entries {
				if r, ok := e.(segment.Revision); ok && !r.Records[0].Tombstone {
					r.Records[0].Value = append(r.Records[0].Value, 0x30, 0x01) // a further lease
					entries[i] = r
					break
				}
			}
		}
		b, err := segment.NewBuilder(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := b.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		s, err := b.Seal()
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.backends {
			forgeOn(t, f.backends[i], sealed, s)
		}
		h.Previous, h.PreviousChain = s.Header.Last, s.Header.Chain
	}
}

// forgeOn replaces a segment.
func forgeOn(t *testing.T, b *memory.Backend, old segment.Header, s *segment.Segment) {
	t.Helper()
	for _, key := range b.Keys() {
		if strings.Contains(key, old.Name()) {
			b.Remove(key)
		}
	}
	repo := repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/"})
	if err := segments.New(segments.Config{Repository: repo}).Put(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

func entriesOf(t *testing.T, p *segments.Segments, h segment.Header) (all []segment.Entry) {
	t.Helper()
	m, err := p.Manifest(t.Context(), segments.RefOf(&h))
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Open(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for {
		e, err := r.Next()
		if err != nil {
			return all
		}
		all = append(all, e)
	}
}
