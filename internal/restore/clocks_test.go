package restore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal/upkeep"
)

// TestNothingOfALaterTimeIsRestoredWhereClocksDiffer is the oracle of --at: leaders come and go whose clocks differ by up
// to an hour, and clocks are set while they lead. Of a random time, the revision is restored up to which all had arrived
// by then, each by the clock of its leader. SNAPSHOTD_JOURNAL_SEEDS is how many histories are tried, of 40 times each.
func TestNothingOfALaterTimeIsRestoredWhereClocksDiffer(t *testing.T) {
	t.Parallel()
	seeds := 3
	if n, err := strconv.Atoi(os.Getenv("SNAPSHOTD_JOURNAL_SEEDS")); err == nil {
		seeds = max(n, seeds)
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			f := newClocks(t, seed)
			for range 40 {
				f.check(t)
			}
		})
	}
}

// clocks is a history of which each leader has a clock of its own.
type clocks struct {
	*faulted
	rnd  *rand.Rand
	now  time.Time // the right time
	last time.Time // that any clock showed
}

func newClocks(t *testing.T, seed uint64) *clocks {
	t.Helper()
	c := &clocks{faulted: &faulted{backends: twoBackends()}, rnd: rand.New(rand.NewPCG(seed, 5)), now: dayBefore}
	h := embedded.NewHistory(t, seed)
	h.Change(t, 20)
	c.recorder = record(t, h, h.Revision()+1, dayBefore, c.backends[0], c.backends[1])
	c.stamped = dayBefore // the begin of the timeline
	c.names[0], c.bases[0] = c.save(t, c.backends[0], c.backends[1])
	c.last = c.clock
	for range 12 {
		c.marked = time.Time{} // of another leader
		ahead := c.ahead()
		for range 3 + c.rnd.IntN(4) {
			if c.rnd.IntN(4) == 0 { // its clock is set
				ahead = c.ahead()
			}
			c.now = c.now.Add(time.Duration(c.rnd.IntN(400)) * time.Second)
			c.clock = c.now.Add(ahead)
			c.Change(t, 1+c.rnd.IntN(3))
			c.sync(t)
			if c.clock.After(c.last) {
				c.last = c.clock
			}
		}
		c.seal(t)
	}
	if c.rnd.IntN(2) == 0 {
		for _, p := range c.places {
			if _, err := upkeep.Merge(t.Context(), p, c.timeline, c.last.Add(2*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

// ahead returns how far a clock is ahead, or behind.
func (c *clocks) ahead() time.Duration {
	return time.Duration(c.rnd.Int64N(int64(time.Hour))) - 30*time.Minute
}

// want returns the revision of a time: that of the snapshot, or the last one up to which all had arrived.
func (c *clocks) want(at time.Time) int64 {
	revision := c.bases[0]
	for next := revision + 1; next <= c.revision && !c.read[next].After(at); next++ {
		revision = next
	}
	return revision
}

// check plans the restore of a time.
func (c *clocks) check(t *testing.T) {
	t.Helper()
	// Before its beginning, nothing is of a timeline, whatever a clock shows.
	at := dayBefore.Add(time.Duration(c.rnd.Int64N(int64(c.last.Sub(dayBefore) + time.Hour)))).Truncate(time.Millisecond)
	res, err := c.plan(t, restore.Choice{At: at})
	want := c.want(at)
	if want == c.bases[0] { // nothing had arrived: the snapshot, if it was there
		if err == nil && (res.Replayed != nil || res.Snapshot.Revision != want) {
			t.Errorf("at %s, %+v of %s is restored, and nothing had arrived", at, res.Replayed, res.Snapshot.Name)
		}
		return
	}
	if err != nil || res.Replayed == nil || len(res.Skipped) > 0 {
		t.Fatalf("at %s: %+v, left out: %v, %v", at, res, res.Skipped, err)
	}
	if got := res.Replayed.Revision; got != want {
		t.Errorf("at %s, revision %d is restored, which was read at %s; it was %d, of %s, and the next one came at %s",
			at, got, c.read[got], want, c.read[want], c.read[want+1])
	}
	if m := res.Replayed.Moment; m.Upper > 0 && m.Upper < want {
		t.Errorf("at %s, revision %d is restored, and the cluster is said to have had %d at most", at, want, m.Upper)
	}
}

// A clock of the far future has named a timeline. Now is the end of the journal that is kept since.
func TestNowIsNotInATimelineOfTheFuture(t *testing.T) {
	t.Parallel()
	f := newFaulted(t, 61)
	future := newHistory(t, 62, now.Add(48*time.Hour), f.backends)
	res, err := f.plan(t, restore.Choice{At: now})
	if err != nil || res.Replayed == nil || res.Replayed.Timeline != f.timeline || res.Replayed.Revision != f.revision {
		t.Fatalf("%+v, %v", res.Replayed, err)
	}
	if text := fmt.Sprint(res.Skipped); !strings.Contains(text, string(future.timeline)) {
		t.Errorf("left out: %s", text)
	}
}
