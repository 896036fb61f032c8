package journal_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	catalog "github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/memory"
)

// growing is an etcd whose newest revision is set, and whose values have a size.
func growing(newest *atomic.Int64, size ...int) *fakeSource {
	return &fakeSource{members: func(string) *fakeMember {
		m := &fakeMember{endpoint: "only", delivered: newest.Load(), current: func() (int64, error) { return newest.Load(), nil }}
		for _, n := range size {
			m.size = n
		}
		return m
	}}
}

// One backend is away, and the replica that has what it lacks does not come back. The next leader says that the backend
// is not complete, and takes a snapshot once it takes new revisions: it may be away when that leader begins, or not.
func TestABackendLacksWhatAnotherReplicaHadForIt(t *testing.T) {
	t.Parallel()
	for name, awayAtFirst := range map[string]bool{"away when the next leader begins": true, "back by then": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var newest atomic.Int64
			good, bad := newPlace("good"), newPlace("bad")
			var a asked
			based := make(chan struct{})
			edit := func(c *journal.Config) {
				c.Base = func(ctx context.Context, b journal.Base) error {
					if strings.Contains(b.Reason, "lacks") {
						<-based
					}
					return a.base(ctx, b)
				}
			}
			follow := func(dir string, revision int64) *replica {
				newest.Store(revision)
				r := lead(t, growing(&newest), dir, []*place{good, bad}, edit)
				r.caughtUp(t, revision)
				r.stored(t, good)
				return r
			}
			lost := t.TempDir()
			r := follow(lost, 10)
			eventually(t, "both have it", func() bool { return r.Status().Waiting == 0 })
			r.stop()
			bad.away.Store(true)
			newest.Store(20)
			r = lead(t, growing(&newest), lost, []*place{good, bad}, edit)
			r.caughtUp(t, 20)
			eventually(t, "the good one has it", func() bool { return look(t, good).Timelines[0].Ranges[0].Last == 20 })
			r.stop()
			since := time.Now()
			bad.away.Store(awayAtFirst)
			newest.Store(30)
			r = lead(t, growing(&newest), t.TempDir(), []*place{good, bad}, edit)
			r.caughtUp(t, 30)
			bad.away.Store(false)
			eventually(t, "both have the newest", func() bool { return r.Status().Waiting == 0 && r.Status().Stores[0].Complete.After(since) })
			if at := r.Status().Stores[1].Complete; at.After(since) {
				t.Errorf("the backend that lacks revisions is complete up to %s, and it lacks what came before %s", at, since)
			}
			close(based)
			eventually(t, "it is complete behind a snapshot", func() bool { return r.Status().Stores[1].Complete.After(since) })
			began := r.Live().Start()
			r.stop()
			bases, _ := a.all()
			n := 0
			for _, b := range bases {
				if strings.Contains(b.Reason, "backend bad lacks revisions") {
					n++
					if b.Revision != 21 || !b.Since.Equal(began) { // any snapshot of the timeline at 20 or later does
						t.Errorf("it asks for %+v; revision 20 is the last that the backend lacks", b)
					}
				}
			}
			if n != 1 {
				t.Errorf("the snapshots asked for are %+v", bases)
			}
		})
	}
}

// cutManifests damages the manifests of all segments.
func (p *place) cutManifests(t *testing.T) {
	t.Helper()
	b, ok := p.Backend.(*memory.Backend)
	if !ok {
		t.Fatal("it is not in memory")
	}
	for _, key := range b.Keys() {
		if strings.Contains(key, "/10s/") && strings.HasSuffix(key, ".json") {
			b.Set(key, b.Content(key)[:20])
		}
	}
}

// The manifest of the newest segment is damaged, and the leader's disk is empty. It does not wait for a person: etcd
// compacts its history meanwhile.
func TestALeaderGoesOnBehindAnEndThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	var newest atomic.Int64
	newest.Store(10)
	p := newPlace("s3")
	r := lead(t, growing(&newest), t.TempDir(), []*place{p})
	r.caughtUp(t, 10)
	r.stored(t, p)
	first := r.Live()
	r.stop()
	p.cutManifests(t)
	newest.Store(20)
	var a asked
	r = lead(t, growing(&newest), t.TempDir(), []*place{p}, func(c *journal.Config) { c.Base, c.Broken = a.base, a.broken })
	r.caughtUp(t, 20)
	live := r.Live()
	r.stop()
	if _, causes := a.all(); len(causes) != 1 || causes[0] != segment.CauseDamaged || !live.Start().After(first.Start()) {
		t.Errorf("%s goes on as %s, because of %v", first, live, causes)
	}
}

// A term begins while etcd does not answer. What is safe is what the journal had before, and not all until now.
func TestTheRecoveryPointOfATermIsThatOfTheJournal(t *testing.T) {
	t.Parallel()
	var newest atomic.Int64
	newest.Store(10)
	p := newPlace("s3")
	r := lead(t, growing(&newest), t.TempDir(), []*place{p})
	r.caughtUp(t, 10)
	r.stored(t, p)
	r.stop()
	ended := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	<-tick.C // so that the clock is beyond it
	silent := &fakeSource{members: func(string) *fakeMember {
		return &fakeMember{endpoint: "only", current: func() (int64, error) { return 0, errors.New("it has no leader") }}
	}}
	r = lead(t, silent, t.TempDir(), []*place{p})
	eventually(t, "the recovery point is known", func() bool { return r.Status().Leading && r.Status().Complete.Before(ended) })
	r.stop()
}

// The manifest of the newest segment is damaged on one backend, and another one has the end. The backend with the bad one
// may lack anything: it is not complete before there is a snapshot.
func TestABackendWithABadEndIsNotComplete(t *testing.T) {
	t.Parallel()
	var newest atomic.Int64
	newest.Store(10)
	good, bad := newPlace("good"), newPlace("bad")
	r := lead(t, growing(&newest), t.TempDir(), []*place{good, bad})
	r.caughtUp(t, 10)
	r.stored(t, good)
	r.stop()
	bad.cutManifests(t)
	since := time.Now()
	newest.Store(20)
	based := make(chan struct{})
	r = lead(t, growing(&newest), t.TempDir(), []*place{good, bad}, func(c *journal.Config) {
		c.Base = func(_ context.Context, b journal.Base) error {
			if strings.Contains(b.Reason, "bad lacks") {
				<-based
			}
			return nil
		}
	})
	r.caughtUp(t, 20)
	eventually(t, "both have the newest", func() bool { return r.Status().Waiting == 0 && r.Status().Stores[0].Complete.After(since) })
	if at := r.Status().Stores[1].Complete; at.After(since) {
		t.Errorf("the backend with a bad end is complete up to %s, after %s", at, since)
	}
	close(based)
	eventually(t, "it is complete behind a snapshot", func() bool { return r.Status().Stores[1].Complete.After(since) })
	r.stop()
}

// late is a source that cannot be dialled before a time.
type late struct {
	journal.Source
	until time.Time
}

func (s late) Dial(ctx context.Context, avoid string) (journal.Identity, journal.Member, error) {
	if time.Now().Before(s.until) {
		return journal.Identity{}, nil, errors.New("no member answers")
	}
	return s.Source.Dial(ctx, avoid)
}

// The backend that has the end of the journal is away for a minute, and the leader's disk is empty. The timeline goes on
// when it is back, although the other one has a bad end, or it was noted that there is a timeline which none has.
func TestALeaderWaitsForABackendThatMayHaveTheEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		bad, noted bool
		dialled    time.Duration // from then on
	}{
		"a bad end on the other one":                       {bad: true},
		"a bad end on the other one, and etcd is away":     {bad: true, dialled: 2 * time.Minute},
		"a noted timeline that none has, and etcd is away": {noted: true, dialled: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var newest atomic.Int64
				var b board
				var a asked
				has, other := newPlace("nfs"), newPlace("s3")
				newest.Store(10)
				edit := func(c *journal.Config) {
					c.Broken = a.broken
					if tc.noted {
						b.use(c)
					}
				}
				places := []*place{has, other}
				if tc.noted {
					places = places[:1] // the other one is new later
				}
				r := lead(t, growing(&newest), t.TempDir(), places, edit)
				time.Sleep(time.Minute)
				first := r.Live()
				r.stop()
				if tc.bad {
					other.cutManifests(t)
				}
				has.away.Store(true)
				newest.Store(20)
				r = lead(t, late{growing(&newest), time.Now().Add(tc.dialled)}, t.TempDir(), []*place{has, other}, edit)
				time.Sleep(time.Minute)
				has.away.Store(false)
				time.Sleep(3 * time.Minute)
				live, revision := r.Live(), r.Status().Revision
				r.stop()
				if _, causes := a.all(); len(causes) > 0 || live != first || revision != 20 {
					t.Errorf("%s goes on as %s up to revision %d, because of %v", first, live, revision, causes)
				}
			})
		})
	}
}

// The directory of a backend is not mounted when a leader begins, whose disk is empty. It looks like one without a journal,
// and its journal is there again a minute later.
func TestAnUnmountedDirectoryDoesNotSayWhereTheJournalEnds(t *testing.T) {
	for name, places := range map[string]func(*place) []*place{
		"the only backend": func(p *place) []*place { return []*place{p} },
		"one of two":       func(p *place) []*place { return []*place{newPlace("s3"), p} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var newest atomic.Int64
				var a asked
				p := newPlace("nfs")
				p.stores = catalog.New(nil)
				all := places(p)
				follow := func(revision int64) (live segment.Timeline) {
					newest.Store(revision)
					r := lead(t, growing(&newest), t.TempDir(), all, func(c *journal.Config) { c.Base, c.Broken = a.base, a.broken })
					defer r.stop()
					time.Sleep(time.Minute)
					p.unmounted.Store(false)
					time.Sleep(3 * time.Minute)
					if s := r.Status(); s.Revision != revision || s.Waiting > 0 {
						t.Errorf("it is %+v", s)
					}
					return r.Live()
				}
				first := follow(10)
				p.unmounted.Store(true)
				if live := follow(20); live != first {
					t.Errorf("%s goes on as %s", first, live)
				}
				bases, causes := a.all()
				if len(causes) > 0 || slices.ContainsFunc(bases, func(b journal.Base) bool { return strings.Contains(b.Reason, "lacks") }) {
					t.Errorf("timelines have ended because of %v, and the snapshots asked for are %+v", causes, bases)
				}
			})
		})
	}
}
