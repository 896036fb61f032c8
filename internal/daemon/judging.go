package daemon

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// verdicts are the values of the label of the metric.
var verdicts = []string{string(status.Safe), string(status.Attention), string(status.NotSafe), string(status.Unknown)}

// judgePause is how long after a change a cluster is judged: several come together, and each judgement reads records.
const judgePause = 2 * time.Second

// recordVerdict records the verdict on the cluster, as ClusterService would give it.
func (c *managed) recordVerdict(ctx context.Context) {
	v := server.Verdict(ctx, server.Cluster{View: c, Operations: c, Facts: c})
	if ctx.Err() == nil {
		c.telemetry.Judged(ctx, c.Name(), string(v), verdicts)
	}
}

// changes has the catalog read anew, and the cluster judged, soon after something on this replica may have changed the
// verdict.
type changes struct {
	wake    atomic.Pointer[func()] // nil before the loops
	pending atomic.Bool
}

var _ snapshot.Observer = (*changes)(nil)

// Observe implements [snapshot.Observer].
func (c *changes) Observe(_ context.Context, ev snapshot.Event) {
	switch ev.Type {
	case snapshot.EventFinished, snapshot.EventReconciled, snapshot.EventVerified, snapshot.EventRepaired, snapshot.EventDeleted:
	default:
		return
	}
	if wake := c.wake.Load(); wake != nil && c.pending.CompareAndSwap(false, true) {
		time.AfterFunc(judgePause, func() {
			c.pending.Store(false)
			(*wake)()
		})
	}
}
