package daemon

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/fairqueue"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/server/feed"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/telemetry"
)

// managed is a cluster of the domain with the parts that its loops need.
type managed struct {
	*cluster.Cluster
	facts
	timetable
	cfg     config.Cluster // in effect
	uses    uses
	closers closers
	work    sync.RWMutex // held for reading by work that a leader ends before it gives way
	loops   sync.WaitGroup
	// directory is closed as soon as the loops have ended: a successor of this cluster has the same directory.
	directory closers
	stop      context.CancelFunc // of the loops
	begun     chan struct{}      // closed when it is decided whether the loops begin; nil for those of the start
	after     <-chan struct{}    // closed when its predecessor has ended; nil without one
	ending    sync.Once
	ended     chan struct{} // closed when the loops have ended, and directory is closed

	// wakeDelivery makes an upload fallback be looked for; nil before the loops.
	wakeDelivery atomic.Pointer[func()]
	successor    atomic.Pointer[managed] // under the same name; nil while the cluster is served, or when it was removed
	changes      changes
	noting       noting
	judge        func(context.Context) // for the metric of the verdict

	lead      schedule.Campaign
	interval  func() time.Duration // between the end of one reconcile and the next
	rates     rates
	queues    queues           // of all clusters
	restoring *fairqueue.Queue // of this cluster, one at a time
	waiting   waiting
	watched   snapshot.Observer // of what happens, also to saves before they begin
	feed      *feed.Feed
	telemetry *telemetry.Telemetry
	log       *slog.Logger
}

// Follow yields the events that the catalog records. The catalog is watched once, however many follow it.
func (c *managed) Follow(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
	return c.feed.Follow(ctx, after)
}

// named returns the cluster of a name; nil when there is none.
func named(clusters []*managed, name string) *managed {
	for _, c := range clusters {
		if c.Name() == name {
			return c
		}
	}
	return nil
}
