package keeping

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	catalogmemory "github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/snapshot"
)

var must = check.OK

// fakeNotes is the notes of a catalog that may be away.
type fakeNotes struct {
	mu             sync.Mutex
	away           bool
	noted          snapshot.JournalNotes
	tries, written int
}

// AmendJournalNotes implements [Notes].
func (f *fakeNotes) AmendJournalNotes(_ context.Context, change func(*snapshot.JournalNotes)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	if f.away {
		return errors.New("it is away")
	}
	f.written++
	change(&f.noted)
	return nil
}

// gone lets the catalog answer no more, or again.
func (f *fakeNotes) gone(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

// now returns what is noted.
func (f *fakeNotes) now() (noted snapshot.JournalNotes, tries, written int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.noted, f.tries, f.written
}

// TestWhatTheJournalFindsIsInTheCatalog also when that does not answer at first.
func TestWhatTheJournalFindsIsInTheCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		notes := &fakeNotes{away: true}
		n := NewNoter(notes, "node-1", slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		defer work.Wait()
		defer cancel()
		n.Broken(snapshot.JournalBreak{Timeline: "a", After: 5, Before: 10, BeforeTime: time.Now(), Reason: "compacted: so"})
		n.Run(ctx, &work)
		time.Sleep(lastNoteRetry)
		if noted, tries, _ := notes.now(); tries < 2 || len(noted.Breaks) > 0 {
			t.Errorf("after %d tries, noted are %+v", tries, noted.Breaks)
		}
		notes.gone(false)
		time.Sleep(lastNoteRetry)
		if noted, _, _ := notes.now(); len(noted.Breaks) != 1 || noted.Breaks[0].Timeline != "a" {
			t.Errorf("when the catalog answers, noted are %+v", noted.Breaks)
		}
		n.Broken(snapshot.JournalBreak{Timeline: "b", After: 15, Before: 20, BeforeTime: time.Now(), Reason: "restored: so", OtherHistory: true})
		time.Sleep(time.Nanosecond)
		if noted, _, written := notes.now(); len(noted.Breaks) != 2 || noted.Breaks[1].Timeline != "b" || written != 2 {
			t.Errorf("after the next one, noted are %+v", noted.Breaks)
		}
	})
}

// TestWhatTheBackendsShowIsInTheCatalog also after that was lost.
func TestWhatTheBackendsShowIsInTheCatalog(t *testing.T) {
	notes, stores := &fakeNotes{}, catalogmemory.New(nil)
	n := NewNoter(notes, "node-1", slog.New(slog.DiscardHandler))
	n.Broken(
		snapshot.JournalBreak{Timeline: "a", After: 5, Before: 10, BeforeTime: time.Now().Add(-2 * time.Hour), Reason: "compacted: so"},
		snapshot.JournalBreak{Timeline: "b", After: 15, Before: 20, BeforeTime: time.Now(), Reason: "restored: so", OtherHistory: true},
	)
	n.write(t.Context())

	// The backend has two other timelines, and does not have that of the older break.
	place := newPlace("s3", stores)
	must(t, place.Repository.OpenVerified(t.Context(), true))
	begin := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	for i, reason := range []string{"", "different: others"} {
		at := begin.Add(time.Duration(i) * time.Minute)
		h := segment.Header{Timeline: segment.NewTimeline(1, at), Level: segment.Level10s, Reason: reason}
		store(t, place, h, int64(30+10*i), at)
	}
	must(t, newPlace("old", stores).Repository.OpenVerified(t.Context(), true))
	places := []upkeep.Place{newPlace("old", stores), place} // the first one is not the store that it was
	must(t, n.look(t.Context(), places, time.Now()))
	noted, _, _ := notes.now()
	if all := noted.Breaks; len(all) != 3 || all[1].Before != 40 && all[0].Before != 40 {
		t.Errorf("while a backend is away, noted are %+v", all)
	}
	own := newPlace(snapshot.BackendOn("local", "node-1"), stores)
	must(t, own.Repository.OpenVerified(t.Context(), true))
	must(t, n.look(t.Context(), []upkeep.Place{place, own}, time.Now()))
	if noted, _, _ = notes.now(); len(noted.Breaks) != 3 {
		t.Errorf("while other replicas have directories of their own, noted are %+v", noted.Breaks)
	}
	must(t, n.look(t.Context(), []upkeep.Place{place}, time.Now()))
	noted, _, written := notes.now()
	all := noted.Breaks
	if len(all) != 2 || !all[0].OtherHistory || all[0].After != 30 || all[0].Before != 40 || all[0].Reason != "different: others" || all[1].Timeline != "b" {
		t.Errorf("noted are %+v", all)
	}
	if err := n.look(t.Context(), places[:1], time.Now()); snapshot.BackendOf(err) != "old" {
		t.Errorf("while all backends are away, it says %v", err)
	}
	if _, _, again := notes.now(); again != written {
		t.Error("while all backends are away, the notes are changed")
	}
}

// TestTheLeaderNotesWhereTheJournalIsBehind when that changes, and not while all is well.
func TestTheLeaderNotesWhereTheJournalIsBehind(t *testing.T) {
	notes := &fakeNotes{}
	n := NewNoter(notes, "node-1", slog.New(slog.DiscardHandler))
	behind := func(age time.Duration, why string) []snapshot.RecoveryPoint {
		return []snapshot.RecoveryPoint{{Age: time.Second}, {Backend: "s3", Age: age, Error: why}}
	}
	var noted *snapshot.JournalTrouble
	for _, tc := range []struct {
		what   string
		points []snapshot.RecoveryPoint
		away   bool
		writes bool
		want   int // places
	}{
		{"a term begins", behind(time.Second, ""), false, true, 0},
		{"all is well", behind(time.Minute, "it was slow"), false, false, 0},
		{"it is behind, and the catalog is away", behind(20*time.Minute, "access denied"), true, false, 0},
		{"it is behind", behind(20*time.Minute, "access denied"), false, true, 1},
		{"a moment later", behind(20*time.Minute+time.Second, "access denied"), false, false, 1},
		{"for another reason", behind(20*time.Minute, "it is full"), false, true, 1},
		{"it goes on a little", behind(16*time.Minute, "it is full"), false, false, 1},
		{"it goes on, and is behind", behind(8*time.Minute, "it is full"), false, true, 1},
		{"a segment is damaged, too", append(behind(8*time.Minute, "it is full"), snapshot.RecoveryPoint{Backend: "local", Damaged: 1}), false, true, 2},
		{"all is well again", behind(time.Second, ""), false, true, 0},
	} {
		_, _, before := notes.now()
		notes.gone(tc.away)
		noted = n.trouble(t.Context(), tc.points, noted)
		notes.gone(false)
		is, _, written := notes.now()
		if is.Trouble == nil || is.Trouble.Node != "node-1" || len(is.Trouble.Points) != tc.want {
			t.Errorf("%s: noted is %+v", tc.what, is.Trouble)
		}
		if wrote := written > before; wrote != tc.writes {
			t.Errorf("%s: it was written: %v", tc.what, wrote)
		}
	}
}

func TestTheTroubleIsWhereTheJournalIsBehindOrDamaged(t *testing.T) {
	now := time.Now()
	never := time.Since(time.Time{}) // the age of what was never complete
	got := trouble("node-1", []snapshot.RecoveryPoint{
		{Age: time.Second},
		{Backend: "s3", Age: 9 * time.Minute, Error: "access denied."},
		{Backend: "local", Age: time.Second, Damaged: 2},
		{Backend: "slow", Age: time.Minute, Error: "it was slow"},
		{Backend: "new", Age: never},
	}, now)
	want := &snapshot.JournalTrouble{Node: "node-1", Points: []snapshot.JournalPoint{
		{Backend: "s3", Complete: now.Add(-9 * time.Minute), Error: "access denied."},
		{Backend: "local", Damaged: 2},
		{Backend: "new", Complete: now.Add(-never)},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("it is %+v, want %+v", got, want)
	}
}
