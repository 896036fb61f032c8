package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// fakeDriller gives the result that a test has set; the real one is tried end to end.
type fakeDriller struct {
	said repository.Drilled
	err  error
	ran  int
}

func (d *fakeDriller) Drill(_ context.Context, file string, revision int64) (repository.Drilled, error) {
	d.ran++
	d.said.HashRevision = revision
	if _, err := os.Stat(file); err != nil {
		return repository.Drilled{}, err
	}
	return d.said, d.err
}

// hasher is a source with a HashKV.
type hasher struct {
	*hookedSource
	live cluster.LiveHash
	err  error
}

func (h *hasher) HashKV(context.Context, int64) (cluster.LiveHash, error) { return h.live, h.err }

func (f *fixture) verify(t *testing.T, name string, level snapshot.Level) *snapshot.Record {
	t.Helper()
	rec, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: name, Level: level})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestVerifyKeepsTheVerdictOverReconcile(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, func(c *cluster.Config) { c.Driller = drill })
	s := f.mustSave(t)
	drill.said = repository.Drilled{HashKV: 42, TotalKeys: s.TotalKeys}
	for _, level := range []snapshot.Level{snapshot.LevelChecksum, snapshot.LevelStructure, snapshot.LevelDrill} {
		f.verify(t, s.Name, level)
		f.mustReconcile(t)
		v := f.records(t)[s.Name].Verification
		want := []string{"one"}
		if level == snapshot.LevelChecksum {
			want = []string{"one", "two"}
		}
		if v == nil || v.Level != level || !v.Passed || v.Error != "" || !slices.Equal(v.Backends, want) || v.Time.IsZero() {
			t.Errorf("%s: the verdict is %+v", level, v)
		}
	}
	rec := f.records(t)[s.Name]
	if rec.Verification.HashKV != 42 || drill.ran != 1 || rec.Proven().IsZero() {
		t.Errorf("after %d drills: %+v, proven %v", drill.ran, rec.Verification, rec.Proven())
	}
	proof := rec.Verification
	if again := f.verify(t, s.Name, snapshot.LevelChecksum); again.Proven().IsZero() || again.Proof.HashKV != 42 {
		t.Errorf("after a lower level the proof is %+v", again.Proof)
	}
	f.flip(t, "two", s.Name)
	if _, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum}); err == nil {
		t.Error("a damaged copy passed")
	}
	if again := f.records(t)[s.Name]; again.Verification.Passed || !again.Proven().Equal(proof.Time) || again.Proof.HashKV != 42 {
		t.Errorf("after a verification that did not pass the proof is %+v", again.Proof)
	}
	if f.mustReconcile(t); !slices.Equal(f.seen.damaged[s.Name], []string{"two"}) || len(f.seen.damaged) != 1 {
		t.Errorf("reconcile has counted as damaged: %v", f.seen.damaged)
	}
	if !slices.Equal(f.seen.newest, []string{s.Name}) || f.seen.provenName != s.Name {
		t.Errorf("reconcile has named as damaged %q, and as proven %q", f.seen.newest, f.seen.provenName)
	}
	drill.said.TotalKeys++
	if _, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelDrill}); err == nil {
		t.Error("another number of keys passed")
	}
	f.verify(t, s.Name, snapshot.LevelStructure)
	if f.mustReconcile(t); len(f.seen.damaged) != 0 {
		t.Errorf("reconcile has counted as damaged what has passed: %v", f.seen.damaged)
	}
	if again := f.records(t)[s.Name]; !again.Proven().IsZero() || again.Proof == nil || !again.Proof.Time.Equal(proof.Time) ||
		!strings.Contains(again.Proof.Error, "does not hold") {
		t.Errorf("after a drill that did not pass the proof is %+v", again.Proof)
	}
	if left, err := os.ReadDir(f.cfg.SpoolDir); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

func TestProgressOfAVerificationEndsWithAllThatThereIs(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	for _, level := range []snapshot.Level{snapshot.LevelChecksum, snapshot.LevelStructure} {
		last := map[string][2]int64{}
		progress := func(backend string, done, total int64) { last[backend] = [2]int64{done, total} }
		if _, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: level, Backend: "one", Progress: progress}); err != nil {
			t.Fatal(err)
		}
		if got := last["one"]; got[0] == 0 || got[0] != got[1] {
			t.Errorf("%s: %d bytes of %d", level, got[0], got[1])
		}
	}
}

func TestVerifyFindsADamagedCopyAndItIsRepaired(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	f.flip(t, "two", s.Name)
	rec, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum})
	if snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch {
		t.Fatalf("Verify: %v", err)
	}
	if v := rec.Verification; v.Passed || v.Error == "" || rec.State() != snapshot.StatePartial || rec.Location("two").State != snapshot.StateFailed {
		t.Errorf("the verdict is %+v, the record %+v", v, rec)
	}
	f.mustReconcile(t)
	if rec := f.records(t)[s.Name]; rec.Location("two").State != snapshot.StateFailed {
		t.Error("reconcile believes the listing")
	}
	f.clock.pass(2 * time.Minute)
	if _, err := f.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rec := f.verify(t, s.Name, snapshot.LevelChecksum); rec.State() != snapshot.StateReady || !rec.Verification.Passed {
		t.Errorf("after the repair: %+v", rec)
	}
}

// Whoever is called has to know which backend to look at. When the bytes of all copies are right, or one is gone, none is
// to blame, and the snapshot is told all the same.
func TestADamagedSnapshotIsToldWithItsBackends(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, func(c *cluster.Config) { c.Driller = drill })
	s := f.mustSave(t)
	counted := func(when string, damaged bool, want ...string) {
		t.Helper()
		f.mustReconcile(t)
		if got, is := f.seen.damaged[s.Name]; is != damaged || !slices.Equal(got, want) {
			t.Errorf("%s, reconcile tells of %q", when, f.seen.damaged)
		}
	}
	verified := func(when string, level snapshot.Level, want ...string) {
		t.Helper()
		_, _ = f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: level})
		if got := f.seen.failed[s.Name]; !slices.Equal(got, want) {
			t.Errorf("%s, the verification tells of %q", when, got)
		}
	}
	f.flip(t, "two", s.Name)
	verified("damaged", snapshot.LevelChecksum, "two")
	counted("damaged", true, "two")
	f.clock.pass(2 * time.Minute)
	if _, err := f.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	counted("repaired, and not verified since", true)
	verified("repaired", snapshot.LevelChecksum)
	counted("verified", false)
	drill.said = repository.Drilled{TotalKeys: s.TotalKeys + 1}
	verified("with another database than was saved", snapshot.LevelDrill)
	counted("with another database than was saved", true)
}

func TestBackendThatIsDownIsNoVerdict(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	f.backends["two"].get = func(string) error {
		return &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Backend: "two", Message: "down"}
	}
	if _, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum}); snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable {
		t.Errorf("Verify: %v", err)
	}
	if rec := f.records(t)[s.Name]; rec.Verification != nil || rec.State() != snapshot.StateReady {
		t.Errorf("the record: %+v", rec)
	}
	rec, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum, Backend: "one"})
	if err != nil || !slices.Equal(rec.Verification.Backends, []string{"one"}) {
		t.Errorf("of the other backend: %+v, %v", rec, err)
	}
}

func TestVerifyThatIsAskedForWrongly(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	for _, req := range []cluster.VerifyRequest{
		{Name: s.Name}, {Name: s.Name, Level: 9}, {Name: s.Name, Level: snapshot.LevelChecksum, Backend: "three"}, {Name: "", Level: snapshot.LevelChecksum},
	} {
		if _, err := f.Verify(t.Context(), req); snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
			t.Errorf("%+v: %v", req, err)
		}
	}
	if _, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: "none", Level: snapshot.LevelChecksum}); snapshot.ReasonOf(err) != snapshot.ReasonSnapshotNotFound {
		t.Errorf("of none: %v", err)
	}
}

func TestDrillIsHeldAgainstTheLiveCluster(t *testing.T) {
	for _, tc := range []struct {
		name    string
		live    func(s *snapshot.Snapshot) cluster.LiveHash
		err     error
		keys    int64 // more than there should be
		drill   error
		damaged bool
		says    string
	}{
		{name: "the same", live: func(s *snapshot.Snapshot) cluster.LiveHash {
			return cluster.LiveHash{ClusterID: s.EtcdClusterID, HashKV: 7, CompactRevision: 3}
		}, says: "the same as the live cluster's"},
		{name: "another", live: func(s *snapshot.Snapshot) cluster.LiveHash {
			return cluster.LiveHash{ClusterID: s.EtcdClusterID, HashKV: 8, CompactRevision: 3}
		}, damaged: true, says: "not the live cluster's"},
		{name: "compacted meanwhile", live: func(s *snapshot.Snapshot) cluster.LiveHash {
			return cluster.LiveHash{ClusterID: s.EtcdClusterID, HashKV: 8, CompactRevision: 5}
		}, says: "compacted meanwhile"},
		{name: "another cluster", live: func(*snapshot.Snapshot) cluster.LiveHash {
			return cluster.LiveHash{ClusterID: "00", HashKV: 8, CompactRevision: 3}
		}, says: "another one now"},
		{name: "etcd is down", err: errors.New("no member answers"), says: "not compared: no member answers"},
		{name: "other keys", keys: 1, err: errors.New("-"), damaged: true},
		{name: "it does not start", drill: fmt.Errorf("%w: boom", repository.ErrNotRestorable), damaged: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			drill, h := &fakeDriller{err: tc.drill}, &hasher{err: tc.err}
			f := newFixture(t, func(c *cluster.Config) {
				h.hookedSource = c.Source.(*hookedSource)
				c.Driller, c.Source = drill, h
			})
			s := f.mustSave(t)
			drill.said = repository.Drilled{HashKV: 7, CompactRevision: 3, TotalKeys: s.TotalKeys + tc.keys}
			if tc.live != nil {
				h.live = tc.live(s)
			}
			rec, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelDrill})
			if (snapshot.ReasonOf(err) == snapshot.ReasonSnapshotUnreadable) != tc.damaged || !tc.damaged && err != nil {
				t.Fatalf("Verify: %v", err)
			}
			if rec.State() != snapshot.StateReady || len(rec.Bookkeeping().Damaged) > 0 {
				t.Errorf("its bytes are right, and it is %s, damaged on %q", rec.State(), rec.Bookkeeping().Damaged)
			}
			if v := rec.Verification; v.Passed == tc.damaged || !strings.Contains(v.Live, tc.says) || rec.Proven().IsZero() != tc.damaged {
				t.Errorf("the verdict is %+v", v)
			}
		})
	}
}

// A disk that is full, or a drill that could not begin, says nothing of the snapshot.
func TestDrillThatCannotBeginIsNoVerdict(t *testing.T) {
	drill := &fakeDriller{err: errors.New("too many open files")}
	f := newFixture(t, func(c *cluster.Config) { c.Driller = drill })
	s := f.mustSave(t)
	if _, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelDrill}); err == nil {
		t.Error("no error")
	}
	if rec := f.records(t)[s.Name]; rec.Verification != nil || rec.State() != snapshot.StateReady {
		t.Errorf("the record: %+v", rec)
	}
}

// While a backend is away nothing gets a verdict. The copies on the others are read in turn all the same.
func TestScrubTakesAllInTurnWhileABackendIsAway(t *testing.T) {
	f := newFixture(t)
	names := f.scheduled(t, 4)
	read := map[string]bool{}
	f.backends["one"].get = func(key string) error {
		if name, ok := strings.CutSuffix(strings.TrimPrefix(key, "default/"), ".db.zst"); ok {
			read[name] = true
		}
		return nil
	}
	f.backends["two"].get = func(string) error { return errBroken }
	for range names {
		f.clock.pass(time.Hour)
		if err := f.Scrub(t.Context(), cluster.Scrub{Share: 25}); err == nil {
			t.Error("nothing is told of the backend that is away")
		}
	}
	if len(read) != len(names) {
		t.Errorf("%d of %d snapshots were read", len(read), len(names))
	}
	f.backends["two"].get = nil
	if err := f.Scrub(t.Context(), cluster.Scrub{Share: 100}); err != nil {
		t.Error(err)
	}
	for name, rec := range f.records(t) {
		if v := rec.Verification; v == nil || !v.Passed || len(v.Backends) != 2 {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestScrubDrillsTheNewestAndTakesTheOthersInTurn(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, func(c *cluster.Config) { c.Driller = drill })
	names := f.scheduled(t, 5)
	drill.said = repository.Drilled{TotalKeys: f.records(t)[names[0]].TotalKeys}
	verified := func() (n int) {
		for _, rec := range f.records(t) {
			if rec.Verification != nil {
				n++
			}
		}
		return n
	}
	for i, want := range []int{3, 5, 5} { // the newest, and half of the other four
		f.clock.pass(time.Hour)
		if err := f.Scrub(t.Context(), cluster.Scrub{Share: 50, Drill: true}); err != nil {
			t.Fatal(err)
		}
		if got := verified(); got != want || drill.ran != i+1 {
			t.Errorf("after scrub %d: %d verified, %d drills", i+1, got, drill.ran)
		}
	}
	if v := f.records(t)[names[0]].Verification; v.Level != snapshot.LevelDrill {
		t.Errorf("the newest: %+v", v)
	}
	f.flip(t, "one", names[2])
	if err := f.Scrub(t.Context(), cluster.Scrub{Share: 100}); snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch && err == nil {
		t.Errorf("Scrub: %v", err)
	}
	if rec := f.records(t)[names[2]]; rec.Verification.Passed {
		t.Errorf("the damaged one: %+v", rec.Verification)
	}
}

func TestPruneKeepsTheNewestThatADrillHasProven(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, keepLast(1), func(c *cluster.Config) { c.Driller = drill })
	names := f.scheduled(t, 5)
	for _, name := range names[3:] {
		drill.said = repository.Drilled{TotalKeys: f.records(t)[name].TotalKeys}
		f.verify(t, name, snapshot.LevelDrill)
	}
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := staying(t, decisions, "one"); !slices.Equal(got, []string{names[0], names[3]}) {
		t.Errorf("on one stay %q, of %q", got, names)
	}
	if got := staying(t, decisions, "two"); !slices.Equal(got, []string{names[0], names[1], names[3]}) {
		t.Errorf("on two stay %q, of %q", got, names)
	}
}

// edit changes a file of a snapshot behind the service's back.
func (f *fixture) edit(t *testing.T, backend, name, suffix string, change func([]byte) []byte) {
	t.Helper()
	path := f.path(backend, name, suffix)
	if err := os.WriteFile(path, change(read(t, path)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A bucket alone must be enough to restore from, so the manifest is part of the copy.
func TestVerifyFindsADamagedManifestAndItIsRepaired(t *testing.T) {
	for what, change := range map[string]func([]byte) []byte{
		"cut off":    func(b []byte) []byte { return b[:len(b)/2] },
		"it lies":    func(b []byte) []byte { return []byte(strings.Replace(string(b), `"revision": "`, `"revision": "1`, 1)) },
		"of another": func(b []byte) []byte { return []byte(strings.Replace(string(b), `"name": "`, `"name": "x`, 1)) },
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t)
			s := f.mustSave(t)
			f.edit(t, "two", s.Name, ".json", change)
			rec, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum})
			if snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch || !strings.Contains(err.Error(), s.Name+".json") {
				t.Fatalf("Verify: %v", err)
			}
			if rec.Location("one").State != snapshot.StateReady || rec.Location("two").State != snapshot.StateFailed {
				t.Errorf("the record %+v", rec)
			}
			_ = f.reconcile(t, cluster.ReconcileRequest{})
			f.clock.pass(2 * time.Minute)
			f.mustRepair(t)
			if rec := f.verify(t, s.Name, snapshot.LevelChecksum); rec.State() != snapshot.StateReady {
				t.Errorf("after the repair: %+v", rec)
			}
			f.twins(t, s.Name)
		})
	}
}

// A copy that is known to be damaged is reported, whatever else cannot be read.
func TestDamageIsToldThoughAnotherBackendIsDown(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	f.flip(t, "one", s.Name)
	f.backends["two"].get = func(string) error {
		return &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Backend: "two", Message: "down"}
	}
	rec, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum})
	if snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch || rec == nil {
		t.Fatalf("Verify: %+v, %v", rec, err)
	}
	if v := rec.Verification; v.Passed || !slices.Equal(v.Backends, []string{"one"}) || rec.Location("one").State != snapshot.StateFailed {
		t.Errorf("the verdict is %+v, the record %+v", v, rec)
	}
}

// One damaged copy proves nothing against the others, and must not let retention remove them.
func TestDamagedCopyLeavesTheProofToTheOthers(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, func(c *cluster.Config) {
		c.Driller = drill
		c.Retention = map[string]retention.Rules{"one": {KeepLast: 1}, "two": {KeepLast: 1}}
	})
	names := f.scheduled(t, 3)
	drill.said = repository.Drilled{TotalKeys: f.records(t)[names[2]].TotalKeys}
	f.verify(t, names[2], snapshot.LevelDrill)
	f.flip(t, "two", names[2])
	rec, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: names[2], Level: snapshot.LevelChecksum})
	if err == nil || rec.Proven().IsZero() {
		t.Fatalf("Verify: %+v, %v", rec, err)
	}
	decisions, err := f.Prune(t.Context(), cluster.PruneRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := staying(t, decisions, "one"); !slices.Contains(got, names[2]) {
		t.Errorf("on one stay %q, of %q", got, names)
	}
}

// A file that was damaged and put back by hand is found to be good, also where there is no other copy.
func TestCopyThatWasPutRightIsReadyAgain(t *testing.T) {
	f := newFixture(t, func(c *cluster.Config) { c.Backends = c.Backends[:1] })
	s := f.mustSave(t)
	good := read(t, f.path("one", s.Name, ".db.zst"))
	f.flip(t, "one", s.Name)
	for range 2 { // a damaged copy is so when it is asked for again
		rec, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum})
		if snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch || rec.State() != snapshot.StateFailed {
			t.Fatalf("Verify: %+v, %v", rec, err)
		}
	}
	f.edit(t, "one", s.Name, ".db.zst", func([]byte) []byte { return good })
	if rec := f.verify(t, s.Name, snapshot.LevelChecksum); rec.State() != snapshot.StateReady || rec.ErrorText() != "" || len(rec.Bookkeeping().Damaged)+len(rec.Failures()) > 0 {
		t.Errorf("the record: %+v", rec)
	}
	f.mustReconcile(t)
	if rec := f.records(t)[s.Name]; rec.State() != snapshot.StateReady {
		t.Errorf("after a reconcile: %+v", rec)
	}
}

func TestCopyThatIsGoneDoesNotPass(t *testing.T) {
	for _, suffix := range []string{".db.zst", ".json"} {
		f := newFixture(t)
		s := f.mustSave(t)
		if err := os.Remove(f.path("two", s.Name, suffix)); err != nil {
			t.Fatal(err)
		}
		rec, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum})
		if snapshot.ReasonOf(err) != snapshot.ReasonSnapshotUnreadable || !strings.Contains(err.Error(), "not there") || rec.Verification.Passed {
			t.Errorf("%s: %+v, %v", suffix, rec, err)
		}
	}
}

// A service verifies as much as its keys allow, and says how much that was.
func TestSealedSnapshotIsVerifiedAsFarAsTheKeysGo(t *testing.T) {
	key, mine := keyPair(t)
	_, other := keyPair(t)
	for _, tc := range []struct {
		name       string
		identities age.Identities
		inside     bool
	}{{name: "none"}, {name: "of somebody else", identities: other}, {name: "the right one", identities: mine, inside: true}} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(c *cluster.Config) { c.Recipients, c.Identities = recipients(t, key), tc.identities })
			s := f.mustSave(t)
			if v := f.verify(t, s.Name, snapshot.LevelChecksum).Verification; v.StoredOnly == tc.inside {
				t.Errorf("checksum: %+v", v)
			}
			_, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelStructure})
			if (err == nil) != tc.inside || err != nil && snapshot.ReasonOf(err) != snapshot.ReasonSnapshotSealed {
				t.Errorf("structure: %v", err)
			}
			f.edit(t, "one", s.Name, ".db.zst.age", func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
			if err := f.Scrub(t.Context(), cluster.Scrub{Share: 100}); snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch {
				t.Errorf("scrub of a damaged one: %v", err)
			}
		})
	}
}

// A snapshot that can never be verified must not keep the others from their turn.
func TestScrubPassesOverWhatNoConfiguredBackendHolds(t *testing.T) {
	f := newFixture(t)
	names := f.scheduled(t, 3)
	oldest := f.records(t)[names[2]]
	oldest = forge(oldest, func(st *snapshot.Status, _ *snapshot.Bookkeeping) {
		st.Locations = []snapshot.Location{{Backend: "gone", Size: 1, State: snapshot.StateReady}}
	})
	if err := f.catalog.Update(t.Context(), oldest); err != nil {
		t.Fatal(err)
	}
	if err := f.Scrub(t.Context(), cluster.Scrub{Share: 100}); err != nil {
		t.Error(err)
	}
	for _, name := range names[:2] {
		if v := f.records(t)[name].Verification; v == nil || !v.Passed {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// What retention removes while it is read was not damaged, and nobody is to be woken up for it.
func TestCopyThatIsDeletedMeanwhileGetsNoVerdict(t *testing.T) {
	for what, backends := range map[string][]string{"one copy": {"one"}, "all": nil} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t)
			s := f.mustSave(t)
			f.backends["one"].get = func(key string) error {
				if !strings.HasSuffix(key, ".json") && strings.Contains(key, s.Name) {
					f.backends["one"].get = nil
					if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: s.Name, Backends: backends}); err != nil {
						t.Error(err)
					}
				}
				return nil
			}
			if err := f.Scrub(t.Context(), cluster.Scrub{Share: 100}); err != nil {
				t.Errorf("Scrub: %v", err)
			}
			rec := f.records(t)[s.Name]
			switch {
			case backends == nil && rec != nil:
				t.Errorf("it is still there: %+v", rec)
			case backends != nil && (rec.Verification == nil || !rec.Verification.Passed || !slices.Equal(rec.Verification.Backends, []string{"two"})):
				t.Errorf("the verdict on the other copy: %+v", rec.Verification)
			}
			if seen := f.seen.take(); slices.ContainsFunc(seen, func(line string) bool { return strings.HasPrefix(line, "verified") && strings.HasSuffix(line, "false") }) {
				t.Errorf("observed: %q", seen)
			}
		})
	}
}

func TestCopyThatIsMissingIsNotPassedOverWhenTheCatalogCannotTellWhy(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	if err := os.Remove(f.path("one", s.Name, ".db.zst")); err != nil {
		t.Fatal(err)
	}
	f.backends["one"].get = func(key string) error {
		if strings.HasSuffix(key, ".db.zst") {
			f.catalog.fail = func(op string) error {
				if op != "get" {
					return nil
				}
				f.catalog.fail = nil // it is back at once
				return errCatalogDown
			}
		}
		return nil
	}
	_, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum})
	if snapshot.ReasonOf(err) != snapshot.ReasonCatalogUnavailable {
		t.Errorf("Verify: %v", err)
	}
	if v := f.records(t)[s.Name].Verification; v != nil {
		t.Errorf("the verdict: %+v", v)
	}
}

// A copy whose removal has begun is no copy any more. It says nothing against the snapshot.
func TestCopyThatIsBeingDeletedIsNotVerified(t *testing.T) {
	f := newFixture(t)
	name := f.mustSave(t).Name
	f.backends["one"].del = func(string) error { return errBroken }
	if _, err := f.Delete(t.Context(), cluster.DeleteRequest{Name: name, Backends: []string{"one"}}); err == nil {
		t.Fatal("the removal was not interrupted")
	}
	_, err := f.Verify(t.Context(), cluster.VerifyRequest{Name: name, Backend: "one", Level: snapshot.LevelChecksum})
	if snapshot.ReasonOf(err) != snapshot.ReasonCopyMissing {
		t.Errorf("Verify: %v", err)
	}
	if v := f.records(t)[name].Verification; v != nil {
		t.Errorf("the verdict %+v", v)
	}
}
