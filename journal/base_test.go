package journal_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A timeline has begun, and no snapshot can be taken. Its changes are on all backends, and nothing of them could be
// restored: the recovery point says so, for each backend that lacks the snapshot.
func TestWithoutASnapshotNothingIsSafe(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		errs := []error{errors.New("the spool is full"), &journal.PartialBase{Lacking: []string{"two"}}, nil}
		var needs []journal.Base
		j := lead(t, &fakeSource{members: func(string) *fakeMember {
			return &fakeMember{endpoint: "only", current: at(9), delivered: 9}
		}}, t.TempDir(), []*place{newPlace("one"), newPlace("two")}, func(c *journal.Config) {
			c.Base = func(_ context.Context, need journal.Base) error {
				time.Sleep(time.Minute) // it takes its time
				err := errs[0]
				needs, errs = append(needs, need), errs[1:]
				return err
			}
		})
		check := func(after time.Duration, local, one, two bool) {
			t.Helper()
			time.Sleep(time.Until(began.Add(after)))
			s := j.Status()
			for name, c := range map[string]struct {
				at   time.Time
				safe bool
			}{"the disk": {s.Complete, local}, "one": {s.Stores[0].Complete, one}, "two": {s.Stores[1].Complete, two}} {
				if age := time.Since(c.at); (age < 5*time.Second) != c.safe {
					t.Errorf("after %s, %s is complete up to %s before; want it to be safe: %t", after, name, age, c.safe)
				}
			}
		}
		check(50*time.Second, false, false, false)
		check(100*time.Second, false, false, false) // the first attempt has failed
		check(150*time.Second, true, true, false)   // the second one has reached one backend
		check(300*time.Second, true, true, true)
		j.stop()
		if len(needs) != 3 || needs[1].Revision != 9 || needs[2].Fresh || needs[2].Since != needs[0].Since {
			t.Errorf("it has asked for %+v", needs)
		}
	})
}

// The wait until all backends have one snapshot does not keep another one from being taken, which leads to a revision
// below that of the one before.
func TestANewTimelineDoesNotWaitForTheSnapshotOfTheOneBefore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		taken := map[journal.Base]time.Duration{}
		s := inTurn(fakeMember{current: at(9), delivered: 9}, fakeMember{current: at(5), delivered: 5}) // it is restored after two minutes
		j := lead(t, s, t.TempDir(), []*place{newPlace("one")}, func(c *journal.Config) {
			c.Base = func(_ context.Context, need journal.Base) error {
				if key := (journal.Base{Revision: need.Revision, Fresh: need.Fresh}); taken[key] == 0 {
					taken[key] = time.Since(began)
				}
				return &journal.PartialBase{Lacking: []string{"one"}}
			}
		})
		time.Sleep(20 * time.Minute)
		j.stop()
		if at := taken[journal.Base{Revision: 5, Fresh: true}]; at < 2*time.Minute || at > 3*time.Minute {
			t.Errorf("snapshots were asked for after %v", taken)
		}
	})
}

// No snapshot could be taken, and before that is tried again, the journal asks once more and gets one. Nothing is left
// to be tried.
func TestASnapshotThatIsThereIsNotTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var needs []journal.Base
		s := inTurn(fakeMember{current: at(9), delivered: 9}, fakeMember{current: at(9), delivered: 9})
		j := lead(t, s, t.TempDir(), []*place{newPlace("one")}, hours, func(c *journal.Config) {
			c.Base = func(_ context.Context, need journal.Base) error {
				if needs = append(needs, need); len(needs) > 1 {
					return nil
				}
				time.Sleep(115 * time.Second) // the next session begins five seconds later, and the retry is due after ten
				return errors.New("the spool is full")
			}
		})
		time.Sleep(20 * time.Minute)
		j.stop()
		if len(needs) != 2 || needs[1].Reason != "the journal goes on" {
			t.Errorf("it has asked for %+v", needs)
		}
	})
}

// A timeline has no snapshot yet, and another process goes on with it. Still, nothing of the timeline is safe.
func TestATimelineWithoutASnapshotIsNotSafeAfterARestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		began := time.Now()
		var taken atomic.Bool
		dir, p := t.TempDir(), newPlace("one")
		s := inTurn(fakeMember{current: at(9), delivered: 9}, fakeMember{current: at(20), delivered: 20})
		start := func() *replica {
			return lead(t, s, dir, []*place{p}, hours, func(c *journal.Config) {
				c.Base = func(context.Context, journal.Base) error {
					if !taken.Load() {
						return errors.New("the spool is full")
					}
					return nil
				}
			})
		}
		j := start()
		time.Sleep(time.Hour)
		j.stop()
		j = start()
		time.Sleep(time.Minute)
		if s := j.Status(); s.Complete.After(began) || s.Stores[0].Complete.After(began) {
			t.Errorf("it is complete up to %s, and the backend up to %s; the timeline began at %s", s.Complete, s.Stores[0].Complete, began)
		}
		taken.Store(true)
		time.Sleep(10 * time.Minute)
		if s := j.Status(); time.Since(s.Complete) > 5*time.Second || time.Since(s.Stores[0].Complete) > 15*time.Second {
			t.Errorf("with its snapshot, it is complete up to %s, and the backend up to %s, at %s", s.Complete, s.Stores[0].Complete, time.Now())
		}
		j.stop()
	})
}

// A backend is away until the full disk gives up what others have. The snapshot that makes it whole again must be one
// that can be taken: etcd may have gone on in the same history, or be at a lower revision since it was restored.
func TestTheSnapshotForABackendThatLostPartsCanBeTaken(t *testing.T) {
	for name, tc := range map[string]struct {
		then  int64 // the revision of etcd after four minutes; another follows each two minutes
		least int64 // to which the snapshot must lead
	}{
		"the same history":            {then: 7, least: 6},
		"etcd was restored meanwhile": {then: 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var a asked
				with := func(newest int64, size int) fakeMember {
					return fakeMember{current: at(newest), delivered: newest, size: size}
				}
				s := inTurn(with(5, 10_000), with(6, 10_000), with(tc.then, 1), with(tc.then+1, 1), with(tc.then+2, 1))
				began := time.Now()
				good, bad := newPlace("good"), newPlace("bad")
				bad.away.Store(true)
				var needs []journal.Base // for the backend that was away
				j := lead(t, s, t.TempDir(), []*place{good, bad}, hours, func(c *journal.Config) {
					c.MaxBytes, c.Broken = 15_000, a.broken
					c.Base = func(_ context.Context, need journal.Base) error {
						turn := min(int64(time.Since(began)/(2*time.Minute)), 4)
						has := 5 + turn
						if turn >= 2 {
							has = tc.then + turn - 2
						}
						if need.Since.After(time.Now()) || need.Cluster != 1 || need.Revision > has+1 {
							t.Errorf("after %s, no snapshot of revision %d can be %+v", time.Since(began), has, need)
							return errors.New("it cannot be taken")
						}
						if bad.away.Load() || !strings.Contains(need.Reason, "backend bad lacks") {
							return &journal.PartialBase{Lacking: []string{"bad"}}
						}
						needs = append(needs, need)
						return nil
					}
				})
				time.Sleep(6 * time.Minute)
				if _, causes := a.all(); !slices.Contains(causes, segment.CauseFull) || time.Since(j.Status().Stores[1].Complete) < 3*time.Minute {
					t.Errorf("because of %v, the backend is complete up to %s", causes, j.Status().Stores[1].Complete)
				}
				bad.away.Store(false)
				time.Sleep(30 * time.Minute)
				if at := j.Status().Stores[1].Complete; time.Since(at) > time.Minute {
					t.Errorf("the backend is complete up to %s, at %s", at, time.Now())
				}
				j.stop()
				if len(needs) == 0 || needs[0].Revision < tc.least {
					t.Errorf("it has asked for %+v", needs)
				}
			})
		})
	}
}

func TestASnapshotServesAsTheBaseThatIsNeeded(t *testing.T) {
	t.Parallel()
	since := time.Unix(1_784_203_200, 0)
	need := journal.Base{Since: since, Revision: 100, Cluster: 0xab}
	fresh := need
	fresh.Fresh = true
	good := snapshot.Snapshot{CreateTime: since, Revision: 99, EtcdClusterID: "00000000000000ab"}
	edited := func(edit func(*snapshot.Snapshot)) *snapshot.Snapshot {
		s := good
		edit(&s)
		return &s
	}
	for name, c := range map[string]struct {
		last *snapshot.Snapshot
		need journal.Base
		want bool
	}{
		"it leads to the first revision": {&good, need, true},
		"it is older":                    {edited(func(s *snapshot.Snapshot) { s.CreateTime = since.Add(-1) }), need, false},
		"revisions are missing after it": {edited(func(s *snapshot.Snapshot) { s.Revision = 98 }), need, false},
		"it is of another etcd":          {edited(func(s *snapshot.Snapshot) { s.EtcdClusterID = "00000000000000ac" }), need, false},
		"it may be of the old history":   {&good, fresh, false},
	} {
		if got := c.need.Serves(c.last); got != c.want {
			t.Errorf("%s: it serves: %t", name, got)
		}
	}
}
