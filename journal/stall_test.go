package journal_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// fakeSource has members that behave as a test wants.
type fakeSource struct {
	mu      sync.Mutex
	dialled []string // what was avoided, for each dial
	members func(avoid string) *fakeMember
}

func (s *fakeSource) Dial(_ context.Context, avoid string) (journal.Identity, journal.Member, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialled = append(s.dialled, avoid)
	m := s.members(avoid)
	return journal.Identity{ClusterID: 1, MemberID: 2, Endpoint: m.endpoint}, m, nil
}

func (s *fakeSource) avoided() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.dialled)
}

// fakeMember is a member of a cluster that is at a revision, and has delivered the first ones.
type fakeMember struct {
	endpoint  string
	current   func() (int64, error)
	delivered int64
	size      int // of the value of each revision
	lease     func(id int64) journal.LeaseState
	silent    func() error // why it does not say anything of a lease; it does without it
	compacted func() int64 // 1 without it
	auth      journal.AuthState
	leases    func() []int64             // none without it
	deaf      bool                       // it does not begin a watch
	idle      time.Duration              // before it delivers
	named     func(revision int64) int64 // the lease of a revision; none without it
	made      bool                       // the revisions make keys with their leases
	pause     time.Duration              // before it delivers the last revision
	clock     time.Duration              // how far the clock is ahead by which changes arrive
}

func (m *fakeMember) Watch(ctx context.Context, from int64) (journal.Stream, error) {
	if m.deaf {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return &fakeStream{fakeMember: m, ctx: ctx, next: from, last: m.delivered, idle: m.idle}, nil
}

func (m *fakeMember) Current(context.Context) (int64, error) { return m.current() }

func (m *fakeMember) Compacted(_ context.Context, known int64) (int64, error) {
	if m.compacted != nil {
		known = max(known, m.compacted())
	}
	return known, nil
}

func (m *fakeMember) Leases(context.Context) (journal.LeaseList, error) {
	if m.leases == nil {
		return journal.LeaseList{}, nil
	}
	revision, err := m.current()
	return journal.LeaseList{Revision: revision, IDs: m.leases()}, err
}

func (m *fakeMember) Lease(_ context.Context, id int64) (journal.LeaseState, error) {
	if m.silent != nil {
		if err := m.silent(); err != nil {
			return journal.LeaseState{}, err
		}
	}
	return m.lease(id), nil
}

func (m *fakeMember) Auth(context.Context) (journal.AuthState, error) { return m.auth, nil }

func (m *fakeMember) Close() {}

type fakeStream struct {
	*fakeMember
	ctx        context.Context
	next, last int64
	idle       time.Duration
}

func (s *fakeStream) Next() ([]journal.Change, error) {
	if s.next > s.last {
		<-s.ctx.Done()
		return nil, context.Cause(s.ctx)
	}
	idle := s.idle
	if s.next == s.last {
		idle += s.pause
	}
	if idle > 0 {
		select {
		case <-time.After(idle):
			s.idle = 0
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		}
	}
	c := journal.Change{Revision: segment.Revision{
		Main: s.next, Time: time.Now().Add(s.clock), Records: []segment.Record{{Value: append(make([]byte, s.size), byte(s.next))}},
	}}
	if s.named != nil {
		c.Leases = []int64{s.named(s.next)}
	}
	if s.made {
		c.Made = c.Leases
	}
	s.next++
	return []journal.Change{c}, nil
}

// inBubble runs a test in virtual time. What it leaves in pools, such as encoders with channels, must not be used by
// another one: two collections empty the pools.
func inBubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	defer func() { // also when the test fails
		runtime.GC()
		runtime.GC()
	}()
	synctest.Test(t, test)
}

func at(revision int64) func() (int64, error) { return func() (int64, error) { return revision, nil } }

// follow follows a source for a while, in virtual time.
func follow(t *testing.T, s journal.Source, during time.Duration) journal.Status {
	t.Helper()
	j := journal.New(journal.Config{Source: s, Dir: t.TempDir()})
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	status := make(chan journal.Status, 1)
	time.AfterFunc(during-time.Millisecond, func() { status <- j.Status() })
	j.Follow(ctx, 1)
	must(t, j.Close(t.Context()))
	return <-status
}

func TestAMemberThatFallsBehindIsLeftForAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		s := &fakeSource{members: func(avoid string) *fakeMember {
			if avoid == "slow" {
				return &fakeMember{endpoint: "good", current: at(9), delivered: 9}
			}
			return &fakeMember{endpoint: "slow", delivered: 5, current: func() (int64, error) {
				if time.Since(began) < time.Second {
					return 5, nil
				}
				return 9, nil
			}}
		}}
		status := follow(t, s, 10*time.Second)
		if status.Revision != 9 || status.Endpoint != "good" || time.Since(status.Complete) > time.Second {
			t.Errorf("it is %+v, having avoided %q", status, s.avoided())
		}
	})
}

func TestAMemberThatDoesNotAnswerIsLeftForAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		s := &fakeSource{members: func(avoid string) *fakeMember {
			if avoid == "cut off" {
				return &fakeMember{endpoint: "good", current: at(7), delivered: 7}
			}
			return &fakeMember{endpoint: "cut off", delivered: 5, current: func() (int64, error) {
				if time.Since(began) < time.Second {
					return 5, nil
				}
				return 0, errors.New("it has no leader")
			}}
		}}
		status := follow(t, s, 10*time.Second)
		if status.Revision != 7 || status.Endpoint != "good" {
			t.Errorf("it is %+v, having avoided %q", status, s.avoided())
		}
	})
}

func TestAMemberThatBeginsNoWatchIsLeftForAnother(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &fakeSource{members: func(avoid string) *fakeMember {
			if avoid == "deaf" {
				return &fakeMember{endpoint: "good", current: at(7), delivered: 7}
			}
			return &fakeMember{endpoint: "deaf", current: at(7), deaf: true}
		}}
		status := follow(t, s, time.Minute)
		if status.Revision != 7 || status.Endpoint != "good" {
			t.Errorf("it is %+v, having avoided %q", status, s.avoided())
		}
	})
}

// While the cluster has no quorum, nothing is known to be complete, and the recovery point says so.
func TestTheRecoveryPointAgesWhileNobodyAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		s := &fakeSource{members: func(string) *fakeMember {
			return &fakeMember{endpoint: "only", delivered: 5, current: func() (int64, error) {
				if time.Since(began) < 5*time.Second {
					return 5, nil
				}
				return 0, errors.New("it has no leader")
			}}
		}}
		status := follow(t, s, time.Minute)
		if age := time.Since(status.Complete); age < 54*time.Second || age > 57*time.Second {
			t.Errorf("all is said to be complete up to %s ago", age)
		}
	})
}

// To let etcd send very many revisions again costs more than a snapshot.
func TestAJournalThatIsFarBehindBeginsAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var a asked
		dir := t.TempDir()
		for _, revision := range []int64{10, 11 + journal.MaxCatchUp} {
			s := &fakeSource{members: func(string) *fakeMember {
				return &fakeMember{endpoint: "only", current: at(revision), delivered: revision}
			}}
			j := journal.New(journal.Config{Source: s, Dir: dir, Base: a.base, Broken: a.broken})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			j.Follow(ctx, 1)
			cancel()
			must(t, j.Close(t.Context()))
			if got := j.Status().Revision; got != revision {
				t.Errorf("the journal is at revision %d, and etcd at %d", got, revision)
			}
		}
		bases, causes := a.all()
		if len(causes) != 1 || causes[0] != segment.CauseBehind || len(bases) != 2 {
			t.Errorf("timelines have ended because of %v, and snapshots were asked for: %+v", causes, bases)
			return
		}
		// A snapshot is a base only if it leads to the first revision, of the same etcd, and of no history before.
		for i, want := range []journal.Base{{Revision: 10, Cluster: 1}, {Revision: 11 + journal.MaxCatchUp, Cluster: 1, Fresh: true}} {
			if got := bases[i]; got.Revision != want.Revision || got.Cluster != want.Cluster || got.Fresh != want.Fresh {
				t.Errorf("snapshot %d is asked for as %+v, want %+v", i+1, got, want)
			}
		}
	})
}

// A file that somebody has removed does not keep the others from the backends.
// It is not in virtual time: a segment is made with an encoder that other tests use later.
func TestAPartWhoseFileIsGoneIsGivenUp(t *testing.T) {
	t.Parallel()
	dir, p := t.TempDir(), newPlace("one")
	var newest atomic.Int64
	s := &fakeSource{members: func(string) *fakeMember {
		return &fakeMember{endpoint: "only", current: func() (int64, error) { return newest.Load(), nil }, delivered: newest.Load()}
	}}
	var a asked
	slow := func(cfg *journal.Config) { cfg.UploadInterval, cfg.Base, cfg.Broken = time.Hour, a.base, a.broken }
	var r *replica
	for _, revision := range []int64{5, 9, 12} { // the end of one part each
		newest.Store(revision)
		r = lead(t, s, dir, []*place{p}, slow)
		r.caughtUp(t, revision)
		if p.away.Store(true); revision < 12 {
			r.stop()
		}
	}
	eventually(t, "two parts wait", func() bool { return r.Status().Waiting == 2 })
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	must(t, err)
	must(t, os.Remove(files[1]))
	p.away.Store(false)
	eventually(t, "no part waits", func() bool { return r.Status().Waiting == 0 && r.Status().Stores[0].Err == nil })
	eventually(t, "a snapshot behind the gap is asked for", func() bool {
		bases, _ := a.all()
		return slices.ContainsFunc(bases, func(b journal.Base) bool { return strings.Contains(b.Reason, "revisions 6 to 9") })
	})
	r.stop()
	ranges := look(t, p).Timelines[0].Ranges
	if len(ranges) != 2 || ranges[0].Last != 5 || ranges[1].First != 10 || ranges[1].Last != 12 {
		t.Errorf("the backend has %+v", ranges)
	}
	if _, causes := a.all(); !slices.Equal(causes, []segment.Cause{segment.CauseDamaged}) {
		t.Errorf("the gap is told as %v", causes)
	}
}

// A disk that takes nothing does not make the journal ask etcd for the same revisions again and again.
func TestADiskThatTakesNothingIsAskedLessAndLess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &fakeSource{members: func(string) *fakeMember {
			return &fakeMember{endpoint: "a", current: at(9), delivered: 9}
		}}
		dir := t.TempDir()
		j := journal.New(journal.Config{Source: s, Dir: dir})
		run := func(during time.Duration) (dialled int) {
			before := len(s.avoided())
			ctx, cancel := context.WithTimeout(t.Context(), during)
			defer cancel()
			j.Follow(ctx, 1)
			return len(s.avoided()) - before
		}
		if n := run(10 * time.Second); n != 1 || j.Status().Revision != 9 {
			t.Fatalf("it has dialled %d times, and is %+v", n, j.Status())
		}
		aside := dir + ".aside"
		must(t, os.Rename(dir, aside))
		must(t, os.WriteFile(dir, nil, 0o600))
		if n := run(time.Minute); n < 4 || n > 15 {
			t.Errorf("the disk takes nothing, and in a minute etcd was asked %d times", n)
		}
		must(t, os.Remove(dir))
		must(t, os.Rename(aside, dir))
		if n := run(10 * time.Second); n != 1 || j.Status().Revision != 9 {
			t.Errorf("the disk takes all again, and etcd was asked %d times: %+v", n, j.Status())
		}
		must(t, j.Close(t.Context()))
	})
}
