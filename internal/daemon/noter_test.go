package daemon

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

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
	old := func() *repository.Repository {
		return repository.New(repository.Config{Backend: memory.New("old", snapshot.BackendS3), Cluster: "default", Prefix: "default/", Stores: c})
	}
	if err := old().OpenVerified(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	gone := old() // it is not the store that it was
	places := []upkeep.Place{{Repository: gone, Segments: segments.New(segments.Config{Repository: gone})}, place}
	if err := n.look(t.Context(), places, time.Now()); err != nil {
		t.Fatal(err)
	}
	if all := read(); len(all) != 3 || all[1].Before != 40 && all[0].Before != 40 {
		t.Errorf("while a backend is away, noted are %+v", all)
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

// TestTheLeaderNotesWhereTheJournalIsBehind when that changes, and not while all is well.
func TestTheLeaderNotesWhereTheJournalIsBehind(t *testing.T) {
	etcd := embedded.StartEtcd(t)
	client := etcd.Client(t)
	var away atomic.Bool
	c := catalog.New(catalog.Config{Cluster: "default", Connect: func(context.Context) (*clientv3.Client, error) {
		if away.Load() {
			return nil, errors.New("it is away")
		}
		return client, nil
	}})
	n := &noter{catalog: c, node: "node-1", log: slog.New(slog.DiscardHandler)}
	revision := func() int64 {
		resp, err := client.Get(t.Context(), "/")
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	behind := func(age time.Duration, why string) []status.Point {
		return []status.Point{{Age: time.Second}, {Backend: "s3", Age: age, Error: why}}
	}
	var noted *snapshot.JournalTrouble
	for _, tc := range []struct {
		what   string
		points []status.Point
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
		{"a segment is damaged, too", append(behind(8*time.Minute, "it is full"), status.Point{Backend: "local", Damaged: 1}), false, true, 2},
		{"all is well again", behind(time.Second, ""), false, true, 0},
	} {
		before := revision()
		away.Store(tc.away)
		noted = n.trouble(t.Context(), tc.points, noted)
		away.Store(false)
		notes, err := c.JournalNotes(t.Context())
		if err != nil || notes.Trouble == nil || notes.Trouble.Node != "node-1" || len(notes.Trouble.Points) != tc.want {
			t.Errorf("%s: noted is %+v, %v", tc.what, notes.Trouble, err)
		}
		if wrote := revision() > before; wrote != tc.writes {
			t.Errorf("%s: it was written: %v", tc.what, wrote)
		}
	}
}

// TestAScrubNotesHowItHasEnded unless it ended with the term of the leader, whose successor makes it again.
func TestAScrubNotesHowItHasEnded(t *testing.T) {
	client := embedded.StartEtcd(t).Client(t)
	c := catalog.New(catalog.Config{Cluster: "default", Connect: func(context.Context) (*clientv3.Client, error) { return client, nil }})
	f := facts{catalog: c}
	for _, tc := range []struct {
		what string
		err  error
		over bool
		want string
	}{
		{"it fails", errors.New("no space is left"), false, "no space is left"},
		{"the term ends", errors.New("the term is over"), true, "no space is left"},
		{"it finds all good", nil, false, ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		scrub := noted(c, slog.New(slog.DiscardHandler), func(context.Context, cluster.Scrub) error {
			if tc.over {
				cancel()
			}
			return tc.err
		})
		if err := scrub(ctx, cluster.Scrub{}); !errors.Is(err, tc.err) {
			t.Errorf("%s: it returns %v", tc.what, err)
		}
		cancel()
		if note, err := f.Scrubbed(t.Context()); err != nil || note.Error != tc.want || note.Time.IsZero() {
			t.Errorf("%s: the note is %+v, %v", tc.what, note, err)
		}
	}
}

// TestAWindowIsNotOfABackendThatIsNotMounted although that looks empty: what it holds is not lost.
func TestAWindowIsNotOfABackendThatIsNotMounted(t *testing.T) {
	client := embedded.StartEtcd(t).Client(t)
	c := catalog.New(catalog.Config{Cluster: "default", Connect: func(context.Context) (*clientv3.Client, error) { return client, nil }})
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	k := newKeeper(0, &noter{catalog: c}, slog.New(slog.DiscardHandler))
	add := func(backend repository.Backend) upkeep.Place {
		repo := repository.New(repository.Config{Backend: backend, Cluster: "default", Prefix: "default/", Stores: c})
		return upkeep.Place{Repository: repo, Segments: segments.New(segments.Config{Repository: repo})}
	}
	for i, name := range []string{"local", "s3"} { // local has the first and the last revision, s3 the others
		p := add(memory.New(name, snapshot.BackendS3))
		if err := p.Repository.OpenVerified(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		for _, revision := range [][]int64{{30, 33}, {31, 32}}[i] {
			store(t, p, segment.Header{Timeline: segment.NewTimeline(1, at), Level: segment.Level10s}, revision, at)
		}
		k.Places = append(k.Places, p)
	}
	f := facts{catalog: c, journal: journal.New(journal.Config{Dir: t.TempDir()}), keeper: k}
	window := func() status.Window {
		w, err := f.Window(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.PutBases()
		return w
	}
	if w := window(); len(w.Timelines) != 1 || len(w.Timelines[0].Ranges) != 1 || len(w.Gaps)+len(w.Unread) > 0 {
		t.Errorf("with both backends, it is %+v", w)
	}
	k.Places[1] = add(memory.New("s3", snapshot.BackendS3)) // what is below the mount
	w := window()
	if len(w.Gaps) > 0 || len(w.Unread) != 2 || !strings.Contains(w.Unread[0], `backend "s3"`) || !strings.Contains(w.Unread[1], "31 to 32") {
		t.Errorf("without s3, lost are %v, and not read is %q", w.Gaps, w.Unread)
	}
	k.Places[0] = add(memory.New("local", snapshot.BackendS3))
	if w := window(); len(w.Timelines) > 0 || len(w.Unread) != 2 {
		t.Errorf("without any, it is %+v", w)
	}
}
