package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// fakeDriller says what it is told to say; the real one is tried end to end.
type fakeDriller struct {
	said snapshot.Drilled
	err  error
	ran  int
}

func (d *fakeDriller) Drill(_ context.Context, file, _ string, _ int64) (snapshot.Drilled, error) {
	d.ran++
	if _, err := os.Stat(file); err != nil {
		return snapshot.Drilled{}, err
	}
	return d.said, d.err
}

// hasher is a source with a HashKV.
type hasher struct {
	*hookedSource
	live snapshot.LiveHash
	err  error
}

func (h *hasher) HashKV(context.Context, int64) (snapshot.LiveHash, error) { return h.live, h.err }

func (f *fixture) verify(t *testing.T, name string, level snapshot.Level) *snapshot.Record {
	t.Helper()
	rec, err := f.Verify(t.Context(), snapshot.VerifyRequest{Name: name, Level: level})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestVerifyKeepsTheVerdictOverReconcile(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, func(c *snapshot.Config) { c.Driller = drill })
	s := f.mustSave(t)
	drill.said = snapshot.Drilled{HashKV: 42, TotalKeys: s.TotalKeys}
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
	if rec.Verification.HashKV != 42 || drill.ran != 1 || rec.Proven.IsZero() {
		t.Errorf("after %d drills: %+v, proven %v", drill.ran, rec.Verification, rec.Proven)
	}
	if again := f.verify(t, s.Name, snapshot.LevelChecksum); again.Proven.IsZero() {
		t.Error("a lower level took the proof of the drill away")
	}
	if left, err := os.ReadDir(f.cfg.SpoolDir); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

func TestVerifyFindsADamagedCopyAndItIsRepaired(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	f.flip(t, "two", s.Name)
	rec, err := f.Verify(t.Context(), snapshot.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum})
	if snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch {
		t.Fatalf("Verify: %v", err)
	}
	if v := rec.Verification; v.Passed || v.Error == "" || rec.State != snapshot.StatePartial || rec.Location("two").State != snapshot.StateFailed {
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
	if rec := f.verify(t, s.Name, snapshot.LevelChecksum); rec.State != snapshot.StateReady || !rec.Verification.Passed {
		t.Errorf("after the repair: %+v", rec)
	}
}

func TestBackendThatIsDownIsNoVerdict(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	f.backends["two"].get = func(string) error {
		return &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Backend: "two", Message: "down"}
	}
	if _, err := f.Verify(t.Context(), snapshot.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum}); snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable {
		t.Errorf("Verify: %v", err)
	}
	if rec := f.records(t)[s.Name]; rec.Verification != nil || rec.State != snapshot.StateReady {
		t.Errorf("the record: %+v", rec)
	}
	rec, err := f.Verify(t.Context(), snapshot.VerifyRequest{Name: s.Name, Level: snapshot.LevelChecksum, Backend: "one"})
	if err != nil || !slices.Equal(rec.Verification.Backends, []string{"one"}) {
		t.Errorf("of the other backend: %+v, %v", rec, err)
	}
}

func TestVerifyThatIsAskedForWrongly(t *testing.T) {
	f := newFixture(t)
	s := f.mustSave(t)
	for _, req := range []snapshot.VerifyRequest{
		{Name: s.Name}, {Name: s.Name, Level: 9}, {Name: s.Name, Level: snapshot.LevelChecksum, Backend: "three"}, {Name: "", Level: snapshot.LevelChecksum},
	} {
		if _, err := f.Verify(t.Context(), req); snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
			t.Errorf("%+v: %v", req, err)
		}
	}
	if _, err := f.Verify(t.Context(), snapshot.VerifyRequest{Name: "none", Level: snapshot.LevelChecksum}); snapshot.ReasonOf(err) != snapshot.ReasonSnapshotNotFound {
		t.Errorf("of none: %v", err)
	}
}

func TestDrillIsHeldAgainstTheLiveCluster(t *testing.T) {
	for _, tc := range []struct {
		name    string
		live    func(s *snapshot.Snapshot) snapshot.LiveHash
		err     error
		keys    int64 // more than there should be
		drill   error
		damaged bool
		says    string
	}{
		{name: "the same", live: func(s *snapshot.Snapshot) snapshot.LiveHash {
			return snapshot.LiveHash{ClusterID: s.EtcdClusterID, HashKV: 7, CompactRevision: 3}
		}, says: "the same as the live cluster's"},
		{name: "another", live: func(s *snapshot.Snapshot) snapshot.LiveHash {
			return snapshot.LiveHash{ClusterID: s.EtcdClusterID, HashKV: 8, CompactRevision: 3}
		}, damaged: true, says: "not the live cluster's"},
		{name: "compacted meanwhile", live: func(s *snapshot.Snapshot) snapshot.LiveHash {
			return snapshot.LiveHash{ClusterID: s.EtcdClusterID, HashKV: 8, CompactRevision: 5}
		}, says: "compacted meanwhile"},
		{name: "another cluster", live: func(*snapshot.Snapshot) snapshot.LiveHash {
			return snapshot.LiveHash{ClusterID: "00", HashKV: 8, CompactRevision: 3}
		}, says: "another one by now"},
		{name: "etcd is down", err: errors.New("no member answers"), says: "not compared: no member answers"},
		{name: "other keys", keys: 1, err: errors.New("-"), damaged: true},
		{name: "it does not start", drill: fmt.Errorf("%w: boom", snapshot.ErrNotRestorable), damaged: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			drill, h := &fakeDriller{err: tc.drill}, &hasher{err: tc.err}
			f := newFixture(t, func(c *snapshot.Config) {
				h.hookedSource = c.Source.(*hookedSource)
				c.Driller, c.Source = drill, h
			})
			s := f.mustSave(t)
			drill.said = snapshot.Drilled{HashKV: 7, CompactRevision: 3, TotalKeys: s.TotalKeys + tc.keys}
			if tc.live != nil {
				h.live = tc.live(s)
			}
			rec, err := f.Verify(t.Context(), snapshot.VerifyRequest{Name: s.Name, Level: snapshot.LevelDrill})
			if (snapshot.ReasonOf(err) == snapshot.ReasonSnapshotUnreadable) != tc.damaged || !tc.damaged && err != nil {
				t.Fatalf("Verify: %v", err)
			}
			if v := rec.Verification; v.Passed == tc.damaged || !strings.Contains(v.Live, tc.says) || rec.Proven.IsZero() != tc.damaged {
				t.Errorf("the verdict is %+v", v)
			}
		})
	}
}

// A disk that is full, or a drill that could not begin, says nothing of the snapshot.
func TestDrillThatCannotBeginIsNoVerdict(t *testing.T) {
	drill := &fakeDriller{err: errors.New("too many open files")}
	f := newFixture(t, func(c *snapshot.Config) { c.Driller = drill })
	s := f.mustSave(t)
	if _, err := f.Verify(t.Context(), snapshot.VerifyRequest{Name: s.Name, Level: snapshot.LevelDrill}); err == nil {
		t.Error("no error")
	}
	if rec := f.records(t)[s.Name]; rec.Verification != nil || rec.State != snapshot.StateReady {
		t.Errorf("the record: %+v", rec)
	}
}

func TestScrubDrillsTheNewestAndTakesTheOthersInTurn(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, func(c *snapshot.Config) { c.Driller = drill })
	names := f.scheduled(t, 5)
	drill.said = snapshot.Drilled{TotalKeys: f.records(t)[names[0]].TotalKeys}
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
		if err := f.Scrub(t.Context(), snapshot.Scrub{Share: 50, Drill: true}); err != nil {
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
	if err := f.Scrub(t.Context(), snapshot.Scrub{Share: 100}); snapshot.ReasonOf(err) != snapshot.ReasonChecksumMismatch && err == nil {
		t.Errorf("Scrub: %v", err)
	}
	if rec := f.records(t)[names[2]]; rec.Verification.Passed {
		t.Errorf("the damaged one: %+v", rec.Verification)
	}
}

func TestPruneKeepsTheNewestThatADrillHasProven(t *testing.T) {
	drill := &fakeDriller{}
	f := newFixture(t, keepLast(1), func(c *snapshot.Config) { c.Driller = drill })
	names := f.scheduled(t, 5)
	for _, name := range names[3:] {
		drill.said = snapshot.Drilled{TotalKeys: f.records(t)[name].TotalKeys}
		f.verify(t, name, snapshot.LevelDrill)
	}
	decisions, err := f.Prune(t.Context(), snapshot.PruneRequest{})
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
