package journal_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// inTurn is a source of members that answer for two minutes, one after the other; the last one does not end.
func inTurn(members ...fakeMember) *fakeSource {
	began := time.Now()
	turn := func() int { return min(int(time.Since(began)/(2*time.Minute)), len(members)-1) }
	for i := range members {
		current := members[i].current
		members[i].endpoint = fmt.Sprint(i)
		members[i].current = func() (int64, error) {
			if turn() != i {
				return 0, errors.New("it has no leader")
			}
			return current()
		}
	}
	return &fakeSource{members: func(string) *fakeMember { return &members[turn()] }}
}

// kept follows a source for a while in virtual time, and returns all entries of the journal.
func kept(t *testing.T, s journal.Source, during time.Duration, edit ...func(*journal.Config)) []segment.Entry {
	t.Helper()
	p := newPlace("s3")
	j := lead(t, s, t.TempDir(), []*place{p}, edit...)
	time.Sleep(during)
	j.stop()
	return entries(t, p, whole(t, p).Name)
}

// ofType returns the entries of a type.
func ofType[T segment.Entry](all []segment.Entry) (some []T) {
	for _, e := range all {
		if e, ok := e.(T); ok {
			some = append(some, e)
		}
	}
	return some
}

func TestUsersThatChangeBetweenTwoSessionsAreSeen(t *testing.T) {
	before := journal.AuthState{Revision: 7}
	for name, auth := range map[string]journal.AuthState{
		"changed": {Revision: 8}, "not changed": before, "asked for": {Revision: 7, Enabled: true}, // which etcd does not count
	} {
		want := []journal.AuthState{before, auth}
		if auth == before {
			want = want[:1]
		}
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var a asked
				s := inTurn(
					fakeMember{current: at(9), delivered: 9, auth: before},
					fakeMember{current: at(9), delivered: 9, auth: auth}, // without a revision, nothing is sealed
					fakeMember{current: at(20), delivered: 20, auth: auth},
				)
				all := kept(t, s, 6*time.Minute, func(c *journal.Config) { c.Base = a.base })
				var got []journal.AuthState
				for _, e := range ofType[segment.Auth](all) {
					got = append(got, journal.AuthState{Revision: e.AuthRevision, Enabled: e.Enabled})
				}
				bases, _ := a.all()
				asks := 0
				for _, b := range bases {
					if b.Reason == "users or roles have changed" {
						asks++
					}
				}
				got = slices.Compact(got) // each part ends with the newest
				if !slices.Equal(got, want) || asks != len(want)-1 {
					t.Errorf("the journal has %v, want %v; snapshots are asked for: %+v", got, want, bases)
				}
			})
		})
	}
}

// Users or roles change in the minute before another replica leads, or while the process is restarted. The newest segment
// says how they were: a snapshot is taken when they are not the same.
func TestUsersThatChangeAroundAChangeOfTheLeaderAreSeen(t *testing.T) {
	before := journal.AuthState{Revision: 7}
	for name, tc := range map[string]struct {
		auth       journal.AuthState
		same, away bool // the same disk; the backend does not take the end of the journal
		asks       int
	}{
		"another replica":                        {auth: journal.AuthState{Revision: 8}, asks: 1},
		"another replica, turned on":             {auth: journal.AuthState{Revision: 7, Enabled: true}, asks: 1},
		"another replica, and no change":         {auth: before},
		"a restart":                              {auth: journal.AuthState{Revision: 8}, same: true, asks: 1},
		"a restart while the backend is away":    {auth: journal.AuthState{Revision: 8}, same: true, away: true, asks: 1},
		"a restart, and no change, and it is so": {auth: before, same: true, away: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var a asked
				p, dir := newPlace("s3"), t.TempDir()
				s := inTurn(fakeMember{current: at(9), delivered: 9, auth: before}, fakeMember{current: at(20), delivered: 20, auth: before})
				j := lead(t, s, dir, []*place{p})
				time.Sleep(time.Minute)
				p.away.Store(tc.away)
				time.Sleep(3 * time.Minute) // the second member is followed in a session in which nothing is asked for the first time
				j.stop()
				if !tc.same {
					dir = t.TempDir()
				}
				s = inTurn(fakeMember{current: at(30), delivered: 30, auth: tc.auth})
				j = lead(t, s, dir, []*place{p}, func(c *journal.Config) { c.Base = a.base })
				time.Sleep(3 * time.Minute)
				j.stop()
				bases, _ := a.all()
				asks := 0
				for _, b := range bases {
					if b.Reason == "users or roles have changed" {
						asks++
					}
				}
				if asks != tc.asks {
					t.Errorf("%d snapshots are asked for because of them, want %d: %+v", asks, tc.asks, bases)
				}
			})
		})
	}
}

// An id is revoked and granted again between two lists of the leases, which are the same. A key is made with it.
func TestALeaseThatIsGrantedAnewIsAskedForAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		const anew = 5500 * time.Millisecond
		late := func(at time.Duration, before, after int64) int64 {
			if time.Since(began) < at {
				return before
			}
			return after
		}
		s := &fakeSource{members: func(string) *fakeMember {
			delivered := anew + 100*time.Millisecond
			return &fakeMember{
				endpoint: "only", delivered: 10, pause: delivered, leases: func() []int64 { return []int64{77} },
				current: func() (int64, error) { return late(delivered+100*time.Millisecond, 9, 10), nil },
				named:   func(int64) int64 { return 77 }, made: true,
				lease: func(int64) journal.LeaseState {
					return journal.LeaseState{Revision: late(delivered, 9, 10), TTL: late(anew, 60, 30)}
				},
			}
		}}
		got := ofType[segment.Lease](kept(t, s, 10*time.Second, func(c *journal.Config) { c.UploadInterval = time.Minute }))
		if len(got) != 2 || got[0].GrantedTTL != 60 || got[1].GrantedTTL != 30 || got[1].Revision != 10 {
			t.Errorf("the leases are %+v", got)
		}
	})
}

// The clocks of two leaders differ. Within a timeline, times do not go back by that; by a clock that is far off, they do.
func TestTimesDoNotGoBackWhereClocksDiffer(t *testing.T) {
	for name, tc := range map[string]struct {
		ahead time.Duration
		back  bool
	}{"by half an hour": {ahead: 30 * time.Minute}, "by half a day": {ahead: 12 * time.Hour, back: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				p := newPlace("s3")
				for i, m := range []fakeMember{{current: at(9), delivered: 9, clock: tc.ahead}, {current: at(20), delivered: 20}} {
					j := lead(t, inTurn(m), t.TempDir(), []*place{p})
					time.Sleep(time.Duration(1+i) * time.Minute)
					j.stop()
				}
				all := ofType[segment.Revision](entries(t, p, whole(t, p).Name))
				back := !slices.IsSortedFunc(all, func(a, b segment.Revision) int { return a.Time.Compare(b.Time) })
				if len(all) < 10 || back != tc.back {
					t.Errorf("of %d revisions, times go back: %t", len(all), back)
				}
			})
		})
	}
}

// A compaction is seen before the revisions that it comes after are there, and the member never delivers them.
func TestACompactionThatWasNotWrittenIsSeenAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		late := func(before, after int64) int64 {
			if time.Since(began) < time.Second {
				return before
			}
			return after
		}
		s := &fakeSource{members: func(avoid string) *fakeMember {
			m := &fakeMember{
				endpoint: "slow", delivered: 9,
				current:   func() (int64, error) { return late(9, 10), nil },
				compacted: func() int64 { return late(1, 5) },
			}
			if avoid == "slow" {
				m.endpoint, m.delivered = "good", 10
			}
			return m
		}}
		got := ofType[segment.Compaction](kept(t, s, 10*time.Second))
		if len(got) != 1 || got[0].Revision != 5 || got[0].After > 9 || got[0].Before != 10 {
			t.Errorf("the compactions are %+v", got)
		}
	})
}

// Keys with a lease that is known already do not keep another one waiting.
func TestLeasesThatAreKnownTakeNoTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		asked := map[int64]time.Duration{}
		s := &fakeSource{members: func(string) *fakeMember {
			return &fakeMember{
				endpoint: "only", delivered: 1001,
				current: func() (int64, error) { return 1 + 1000*min(1, int64(time.Since(began))), nil }, // the watch begins at 1
				named:   func(revision int64) int64 { return 1 + revision/1001 },
				lease: func(id int64) journal.LeaseState {
					asked[id] = time.Since(began)
					return journal.LeaseState{Revision: 1001, TTL: 60}
				},
			}
		}}
		follow(t, s, 10*time.Second)
		if _, all := asked[2]; !all || asked[2] > asked[1]+time.Second {
			t.Errorf("leases are asked for after %v", asked)
		}
	})
}

// A member gives one answer less. The lease is there for as long as it likes, and no other one comes or goes.
func TestALeaseWithoutAnAnswerIsAskedForAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		failed := false
		s := &fakeSource{members: func(string) *fakeMember {
			return &fakeMember{
				endpoint: "only", current: at(9), delivered: 9, leases: func() []int64 { return []int64{77} },
				lease: func(int64) journal.LeaseState { return journal.LeaseState{Revision: 9, TTL: 60} },
				silent: func() error {
					if failed {
						return nil
					}
					failed = true
					return errors.New("it has no leader")
				},
			}
		}}
		// What is seen behind the last revision waits for the next one: all of it is in one part.
		got := ofType[segment.Lease](kept(t, s, 10*time.Second, func(c *journal.Config) { c.UploadInterval = time.Minute }))
		if len(got) != 1 || got[0].ID != 77 || got[0].GrantedTTL != 60 {
			t.Errorf("the leases are %+v", got)
		}
		if n := len(s.avoided()); n != 1 {
			t.Errorf("a member is dialled %d times", n)
		}
	})
}

// A cluster without a single revision makes no timeline begin. What is seen of it meanwhile is not kept for ever.
func TestWhatIsSeenBeforeTheFirstRevisionIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		ids := func() []int64 { return []int64{int64(time.Since(began) / time.Second)} }
		s := &fakeSource{members: func(string) *fakeMember {
			return &fakeMember{
				endpoint: "only", current: at(1), delivered: 1, idle: 30 * time.Minute, leases: ids,
				lease: func(int64) journal.LeaseState { return journal.LeaseState{Revision: 1, TTL: 60} },
			}
		}}
		all := kept(t, s, 30*time.Minute+time.Second, hours)
		lists, leases := ofType[segment.Leases](all), ofType[segment.Lease](all)
		if len(lists) == 0 || len(lists) > 5 || lists[len(lists)-1].IDs[0] < 1799 || len(leases) > 1000 || leases[len(leases)-1].ID < 1799 {
			t.Errorf("there are %d lists of leases, the last one %v, and %d leases", len(lists), lists[len(lists)-1], len(leases))
		}
	})
}

// The last revision for a long time names a lease just before its part is sealed, and the member answers after that.
func TestTheLeaseOfTheLastRevisionIsStoredWithIt(t *testing.T) {
	for name, tc := range map[string]struct{ flush, answers, within time.Duration }{
		"which is answered":                 {700 * time.Millisecond, 0, 2 * time.Second},
		"which is answered much later":      {700 * time.Millisecond, 5 * time.Second, 2 * time.Second},
		"which is answered when it is time": {5 * time.Second, 0, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				began := time.Now()
				const arrives = 8950 * time.Millisecond
				newest := func() int64 {
					if time.Since(began) < arrives {
						return 9
					}
					return 10
				}
				s := &fakeSource{members: func(string) *fakeMember {
					return &fakeMember{
						endpoint: "only", delivered: 10, pause: arrives,
						current: func() (int64, error) { return newest(), nil },
						named:   func(revision int64) int64 { return 67 + revision },
						silent: func() error {
							if newest() == 10 {
								time.Sleep(tc.answers)
							}
							return nil
						},
						lease: func(int64) journal.LeaseState { return journal.LeaseState{Revision: newest(), TTL: 60} },
					}
				}}
				p := newPlace("s3")
				lead(t, s, t.TempDir(), []*place{p}, func(c *journal.Config) {
					c.FlushInterval, c.UploadInterval = tc.flush, 9*time.Second
				})
				time.Sleep(arrives + tc.within)
				all := entries(t, p, whole(t, p).Name)
				revisions, leases := ofType[segment.Revision](all), ofType[segment.Lease](all)
				if n := len(revisions); n == 0 || revisions[n-1].Main != 10 {
					t.Fatalf("some seconds after revision 10 the backend has %+v", revisions)
				}
				there := slices.ContainsFunc(leases, func(l segment.Lease) bool { return l.ID == 77 && l.GrantedTTL == 60 })
				if there != (tc.answers == 0) {
					t.Errorf("the leases are %+v", leases)
				}
			})
		})
	}
}
