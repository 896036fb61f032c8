package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// A cluster is judged soon after a change, as several come together, and not all the time while many come: each
// judgement reads records.
const (
	judgePause   = 2 * time.Second
	judgeSpacing = 30 * time.Second // from one to the next that changes ask for
)

// changes has the catalog read anew, and the cluster judged, soon after something on this replica may have changed the
// verdict.
type changes struct {
	wake    atomic.Pointer[func()] // nil before the loops
	pending atomic.Bool
	last    atomic.Pointer[time.Time] // when a change woke it; nil when none has
}

var _ snapshot.Observer = (*changes)(nil)

// Observe implements [snapshot.Observer].
func (c *changes) Observe(_ context.Context, ev snapshot.Event) {
	switch ev.Type {
	case snapshot.EventFinished, snapshot.EventReconciled, snapshot.EventVerified, snapshot.EventRepaired,
		snapshot.EventDeleted:
	default:
		return
	}
	if wake := c.wake.Load(); wake != nil && c.pending.CompareAndSwap(false, true) {
		pause := judgePause
		if last := c.last.Load(); last != nil {
			pause = max(pause, judgeSpacing-time.Since(*last))
		}
		time.AfterFunc(pause, func() {
			now := time.Now()
			c.last.Store(&now)
			c.pending.Store(false)
			(*wake)()
		})
	}
}
