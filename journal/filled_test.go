package journal_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
)

// A backend was away, and the replica with what it lacks is gone. No snapshot can be taken, and its revisions come from
// the other backend.
func TestABackendThatWasFilledIsComplete(t *testing.T) {
	t.Parallel()
	var newest atomic.Int64
	good, bad := newPlace("good"), newPlace("bad")
	follow := func(revision int64) *replica {
		newest.Store(revision)
		r := lead(t, growing(&newest), t.TempDir(), []*place{good, bad}, func(c *journal.Config) {
			c.Base = func(_ context.Context, b journal.Base) error {
				if b.Revision <= 1 { // the first one of the timeline
					return nil
				}
				return errors.New("the spool is full")
			}
		})
		r.caughtUp(t, revision)
		eventually(t, "the good one has it", func() bool {
			w := look(t, good)
			return len(w.Timelines) == 1 && w.Timelines[0].Ranges[0].Last == revision
		})
		return r
	}
	r := follow(10)
	eventually(t, "both have it", func() bool { return r.Status().Waiting == 0 })
	r.stop()
	bad.away.Store(true)
	follow(20).stop()
	since := time.Now()
	bad.away.Store(false)
	r = follow(30)
	eventually(t, "both have the newest", func() bool { return r.Status().Waiting == 0 && r.Status().Stores[0].Complete.After(since) })
	complete := func() bool { return r.Status().Stores[1].Complete.After(since) }
	r.Filled("bad", r.Live(), 19)
	r.Filled("good", r.Live(), 20)
	if complete() {
		t.Error("it lacks the revision 20, and is complete")
	}
	r.Filled("bad", r.Live(), 20)
	if !complete() {
		t.Errorf("it is complete up to %s, and it was filled after %s", r.Status().Stores[1].Complete, since)
	}
}
