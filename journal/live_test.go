package journal_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// A replica that has led before uploads a timeline when it does not lead any more. The leader goes on behind it.
func TestALaterTimelineOfAnotherReplicaIsOvertaken(t *testing.T) {
	t.Parallel()
	p := newPlace("s3")
	s := &fakeSource{members: func(string) *fakeMember { return &fakeMember{endpoint: "only", current: at(9), delivered: 9} }}
	var a asked
	j := lead(t, s, t.TempDir(), []*place{p}, func(c *journal.Config) { c.Base, c.Broken = a.base, a.broken })
	j.caughtUp(t, 9)
	first := j.Live()
	must(t, j.Overtaken(t.Context()))
	if got := j.Live(); first == "" || got != first {
		t.Fatalf("the timeline is %q, and was %q", got, first)
	}

	late := segment.NewTimeline(1, time.Now().Add(time.Minute)) // by another clock
	b, err := segment.NewBuilder(segment.Header{Timeline: late, Level: segment.Level10s, Member: 2, Term: 1})
	must(t, err)
	must(t, b.Add(segment.Revision{Main: 5, Time: time.Now(), Records: []segment.Record{{Value: []byte{5}}}}))
	seg, err := b.Seal()
	must(t, err)
	must(t, p.segments().Put(t.Context(), seg))
	must(t, j.Overtaken(t.Context()))
	eventually(t, "a later timeline begins", func() bool { return j.Live().Start().After(late.Start()) })
	next := j.Live()
	must(t, j.Overtaken(t.Context()))
	eventually(t, "it is on the backend", func() bool { return len(look(t, p).Timelines) == 3 })
	if _, causes := a.all(); len(causes) != 1 || causes[0] != segment.CauseOvertaken || j.Live() != next {
		t.Errorf("timelines have ended because of %v; the live one is %s, and was %s", causes, j.Live(), next)
	}
	j.stop()
	if got := j.Live(); got != "" {
		t.Errorf("a replica that does not lead says that %s is live", got)
	}
}

// The term ends while no snapshot can be taken. In the next one, it is still needed.
func TestABaseThatWasNotTakenIsAskedForInTheNextTerm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var a asked
		failing := true
		j := journal.New(journal.Config{
			Source: &fakeSource{members: func(string) *fakeMember { return &fakeMember{endpoint: "only", current: at(9), delivered: 9} }},
			Dir:    t.TempDir(),
			Base: func(ctx context.Context, need journal.Base) error {
				if failing {
					return errors.New("no backend answers")
				}
				return a.base(ctx, need)
			},
		})
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			j.Follow(ctx, 1)
			cancel()
			failing = false
		}
		must(t, j.Close(t.Context()))
		if bases, _ := a.all(); len(bases) == 0 || bases[0].Revision != 9 {
			t.Errorf("in the next term, it asks for %+v", bases)
		}
	})
}

// A leader has an empty disk, and no backend has the timeline that was noted last: its changes are on the disk of another
// replica, or nowhere. They are a gap, and what comes now is of a later timeline.
func TestALeaderWithAnEmptyDiskSeesTheTimelineThatWasNoted(t *testing.T) {
	t.Parallel()
	s := &fakeSource{members: func(string) *fakeMember { return &fakeMember{endpoint: "only", current: at(9), delivered: 9} }}
	noted := segment.NewTimeline(1, time.Now().Add(time.Minute)) // by another clock
	b := board{timeline: noted}
	var a asked
	j := lead(t, s, t.TempDir(), []*place{newPlace("s3")}, b.use, func(c *journal.Config) { c.Base, c.Broken = a.base, a.broken })
	j.caughtUp(t, 9)
	live := j.Live()
	j.stop()
	if bases, causes := a.all(); !live.Start().After(noted.Start()) || len(causes) != 1 || causes[0] != segment.CauseOvertaken || len(bases) == 0 {
		t.Errorf("timelines have ended because of %v; the live one is %s, and %s was noted; snapshots that it asks for: %+v", causes, live, noted, bases)
	}
}

// Somebody removes what was noted where all replicas see it. The leader notes it again.
func TestATimelineThatIsNotNotedAnyMoreIsNotedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var b board
		var members []fakeMember
		for i := range int64(8) {
			members = append(members, fakeMember{current: at(10 * (i + 1)), delivered: 10 * (i + 1)})
		}
		var removed segment.Timeline
		time.AfterFunc(3*time.Minute, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			removed, b.timeline = b.timeline, ""
		})
		kept(t, inTurn(members...), 15*time.Minute, b.use)
		if removed == "" || b.timeline != removed {
			t.Errorf("%q is noted, and %q was removed", b.timeline, removed)
		}
	})
}

// board is what all replicas see.
type board struct {
	mu       sync.Mutex
	timeline segment.Timeline
}

func (b *board) use(c *journal.Config) {
	c.Latest = func(context.Context) (segment.Timeline, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.timeline, nil
	}
	c.Note = func(_ context.Context, t segment.Timeline) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.timeline = t
		return nil
	}
}

// No backend answers for an hour, and leadership goes from one replica to another and back. Each goes on with the same
// history, and none of it is lost or written differently, whoever uploads first when the backend is back.
func TestLeadersGoOnFromTheirDisksWhileNoBackendAnswers(t *testing.T) {
	t.Parallel()
	var newest atomic.Int64
	s := &fakeSource{members: func(string) *fakeMember {
		return &fakeMember{endpoint: "only", delivered: newest.Load(), current: func() (int64, error) { return newest.Load(), nil }}
	}}
	p := newPlace("s3")
	var b board
	var a asked
	dirs := []string{t.TempDir(), t.TempDir()}
	follow := func(dir string, revision int64) {
		newest.Store(revision)
		j := lead(t, s, dir, []*place{p}, b.use, func(c *journal.Config) { c.Broken = a.broken })
		j.caughtUp(t, revision)
		j.stop()
	}
	follow(dirs[0], 10)
	follow(dirs[1], 20)
	p.away.Store(true)
	follow(dirs[0], 30) // its own disk ends at 10, and it has compared with the backend before that was away
	follow(dirs[1], 40) // not the last that has written
	follow(dirs[1], 50) // a restart of the same one
	follow(dirs[0], 60)
	p.away.Store(false)
	follow(dirs[1], 70)
	follow(dirs[0], 80)
	if _, causes := a.all(); len(causes) > 0 {
		t.Errorf("timelines have ended because of %v", causes)
	}
	if r := whole(t, p).Ranges[0]; r.First != 10 || r.Last != 80 {
		t.Errorf("the backend has the revisions %d to %d", r.First, r.Last)
	}
}

// While no backend answers, another replica has begun a timeline, which is on its disk alone. What this one would add to
// the timeline before would be hidden by it.
func TestALaterTimelineThatIsOnNoBackendYetIsOvertaken(t *testing.T) {
	t.Parallel()
	s := &fakeSource{members: func(string) *fakeMember { return &fakeMember{endpoint: "only", current: at(9), delivered: 9} }}
	p := newPlace("s3")
	var b board
	var a asked
	dir := t.TempDir()
	edit := func(c *journal.Config) { c.Base, c.Broken = a.base, a.broken }
	j := lead(t, s, dir, []*place{p}, b.use, edit)
	j.caughtUp(t, 9)
	first := j.Live()
	j.stop()
	p.away.Store(true)
	b.timeline = segment.NewTimeline(1, time.Now().Add(time.Minute)) // of another replica
	late := b.timeline
	j = lead(t, s, dir, []*place{p}, b.use, edit)
	eventually(t, "a later timeline begins", func() bool { return j.Live().Start().After(late.Start()) })
	j.caughtUp(t, 9)
	live := j.Live()
	j.stop()
	if _, causes := a.all(); len(causes) != 1 || causes[0] != segment.CauseOvertaken || b.timeline != live || first == live {
		t.Errorf("timelines have ended because of %v; the live one is %s, and %s is noted", causes, live, b.timeline)
	}
	// It is noted, so that it goes on when it leads again.
	j = lead(t, s, dir, []*place{p}, b.use, edit)
	eventually(t, "it goes on", func() bool { return j.Live() == live })
	if _, causes := a.all(); len(causes) != 1 {
		t.Errorf("timelines have ended because of %v", causes)
	}
}

// A timeline of the far future is on the disk and on a backend: a clock was wrong. No leader adds to it, or names another
// one behind it.
func TestNobodyAddsToATimelineOfTheFuture(t *testing.T) {
	t.Parallel()
	var newest atomic.Int64
	var a asked
	dir, p := t.TempDir(), newPlace("s3")
	future := segment.NewTimeline(1, time.Now().Add(48*time.Hour))
	log := local.New(dir, 1<<30)
	must(t, log.Open())
	must(t, log.Begin(segment.Header{Timeline: future}))
	for r := int64(1); r <= 3; r++ {
		must(t, log.Append(segment.Revision{Main: r, Time: future.Start(), Records: []segment.Record{{Value: []byte{byte(r)}}}}))
	}
	must(t, log.Close())
	var live segment.Timeline
	for i, at := range []int64{10, 20, 30} {
		newest.Store(at)
		if i == 2 {
			dir = t.TempDir() // of another replica
		}
		r := lead(t, growing(&newest), dir, []*place{p}, func(c *journal.Config) {
			c.Broken = a.broken
			c.Latest = func(context.Context) (segment.Timeline, error) { return future, nil }
		})
		r.caughtUp(t, at)
		eventually(t, "all is stored", func() bool { return r.Status().Waiting == 0 })
		must(t, r.Overtaken(t.Context()))
		if i == 0 {
			live = r.Live()
		}
		if got := r.Live(); got != live || !got.Start().Before(time.Now().Add(time.Minute)) {
			t.Errorf("leader %d adds to %s, and the one before to %s", i, got, live)
		}
		r.stop()
	}
	if _, causes := a.all(); len(causes) > 0 {
		t.Errorf("timelines have begun because of %v", causes)
	}
	if w := look(t, p); len(w.Timelines) != 2 || len(w.Timelines[0].Ranges) != 1 || w.Timelines[0].Ranges[0].Last != 30 || w.Timelines[1].Name != future {
		t.Errorf("the backend has %+v", w.Timelines)
	}
}
