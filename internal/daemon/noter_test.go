package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// TestTheBackendsShowWhichGapsThereAre: the backends have the last word where all of them were listed, but not on what was
// found within the last hour: parts wait on the disk.
func TestTheBackendsShowWhichGapsThereAre(t *testing.T) {
	now := time.Now()
	at := func(ago time.Duration, timeline string, before int64) snapshot.JournalBreak {
		return snapshot.JournalBreak{Timeline: timeline, After: before - 5, Before: before, BeforeTime: now.Add(-ago), Reason: "compacted: so"}
	}
	shown := func(ago time.Duration, timeline string, before int64, begins bool) journal.Break {
		return journal.Break{JournalBreak: at(ago, timeline, before), Begins: begins}
	}
	const old, fresh = 2 * time.Hour, time.Minute
	names := func(all []snapshot.JournalBreak) string {
		var names []string
		for _, b := range all {
			names = append(names, fmt.Sprint(b.Timeline, b.Before))
		}
		return strings.Join(names, " ")
	}
	for name, tc := range map[string]struct {
		noted []snapshot.JournalBreak
		found []journal.Break
		whole bool
		want  string
	}{
		"filled, or removed":                 {noted: []snapshot.JournalBreak{at(old, "a", 10)}, whole: true},
		"a backend is away":                  {noted: []snapshot.JournalBreak{at(old, "a", 10)}, want: "a10"},
		"it was found a minute ago":          {noted: []snapshot.JournalBreak{at(fresh, "a", 10)}, whole: true, want: "a10"},
		"after the catalog is lost":          {found: []journal.Break{shown(old, "b", 20, true), shown(old, "b", 30, false)}, whole: true, want: "b20 b30"},
		"a gap that an upload may fill":      {found: []journal.Break{shown(fresh, "b", 30, false)}, whole: true},
		"a gap that another backend fills":   {found: []journal.Break{shown(old, "b", 30, false), shown(old, "c", 40, true)}, want: "c40"},
		"the same one is noted once, sorted": {[]snapshot.JournalBreak{at(fresh, "b", 20)}, []journal.Break{shown(fresh, "b", 20, true), shown(old, "a", 10, true)}, true, "a10 b20"},
		"its manifest cannot be read":        {found: []journal.Break{{JournalBreak: snapshot.JournalBreak{Timeline: "a", Before: 9}, Begins: true}}, whole: true},
	} {
		if got := names(seen(tc.noted, tc.found, tc.whole, now)); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	many := slices.Repeat([]snapshot.JournalBreak{at(old, "a", 10)}, 2*snapshot.MaxJournalBreaks)
	if got := joined(many, []snapshot.JournalBreak{at(fresh, "b", 20)}); len(got) != snapshot.MaxJournalBreaks || got[len(got)-1].Timeline != "b" {
		t.Errorf("%d are kept, %s", len(got), names(got))
	}
}

// TestWhatTheJournalFindsIsInTheCatalog also when that does not answer at first, and what the backends show is, after the
// catalog was lost.
func TestWhatTheJournalFindsIsInTheCatalog(t *testing.T) {
	conn, err := etcd.New(etcd.Config{Endpoints: embedded.StartEtcd(t).Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	var away atomic.Bool
	away.Store(true)
	c := catalog.New(catalog.Config{Cluster: "default", Connect: func(ctx context.Context) (*clientv3.Client, error) {
		if away.Load() {
			return nil, errors.New("it is away")
		}
		return conn.Client(ctx)
	}})
	read := func() []snapshot.JournalBreak {
		notes, err := c.JournalNotes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return notes.Breaks
	}
	n := &noter{catalog: c, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	n.broken(snapshot.JournalBreak{Timeline: "a", After: 5, Before: 10, BeforeTime: time.Now().Add(-2 * time.Hour), Reason: "compacted: so"})
	n.run(ctx, &work)
	eventually(t, "it has tried", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.failed > 0
	})
	away.Store(false)
	eventually(t, "the break is noted", func() bool { return len(read()) == 1 })
	n.broken(snapshot.JournalBreak{Timeline: "b", After: 15, Before: 20, BeforeTime: time.Now(), Reason: "restored: so", OtherHistory: true})
	eventually(t, "the next one is, too", func() bool { return len(read()) == 2 })
	cancel()
	work.Wait()

	// The backend has two other timelines, and does not have that of the older break.
	repo := repository.New(repository.Config{
		Backend: memory.New("s3", snapshot.BackendS3), Cluster: "default", Prefix: "default/", Stores: c,
	})
	if err := repo.OpenVerified(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	place := upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}
	begin := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	for i, reason := range []string{"", "different: others"} {
		at := begin.Add(time.Duration(i) * time.Minute)
		store(t, place, segment.Header{Timeline: segment.NewTimeline(1, at), Level: segment.Level10s, Reason: reason}, int64(30+10*i), at)
	}
	if err := n.look(t.Context(), []upkeep.Place{place}, time.Now()); err != nil {
		t.Fatal(err)
	}
	all := read()
	if len(all) != 2 || !all[0].OtherHistory || all[0].After != 30 || all[0].Before != 40 || all[0].Reason != "different: others" || all[1].Timeline != "b" {
		t.Errorf("noted are %+v", all)
	}
}

// store puts a segment of one revision on a backend.
func store(t *testing.T, p upkeep.Place, h segment.Header, revision int64, at time.Time) {
	t.Helper()
	b, err := segment.NewBuilder(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(segment.Revision{Main: revision, Time: at, Records: []segment.Record{{Value: []byte("x")}}}); err != nil {
		t.Fatal(err)
	}
	s, err := b.Seal()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Segments.Put(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}
