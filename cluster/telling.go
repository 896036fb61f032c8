package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

// tellInterval is how often other replicas are told how far a save is, and when they are told first. Each time costs
// the catalog's etcd a write, which may be the etcd that is saved.
const tellInterval = 5 * time.Second

// tell tells other replicas how far the transfer is until stop is called. Nothing depends on it: one that the catalog
// does not take is left out.
func (t *transfer) tell(ctx context.Context) (stop func()) {
	if t.s.held == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(span.Outside(ctx))
	var telling sync.WaitGroup
	backoff.Repeat(ctx, &telling, tellInterval, func(ctx context.Context) time.Duration {
		if t.s.lockLost() {
			return backoff.Never
		}
		if err := t.s.held.Tell(ctx, t.far()); err != nil && ctx.Err() == nil {
			t.s.c.log.DebugContext(ctx, "other replicas not told how far the save is", "snapshot", t.s.rec.Name, "error", err)
		}
		return tellInterval
	})
	return func() {
		cancel()
		telling.Wait()
	}
}

// far returns how far the transfer is.
func (t *transfer) far() snapshot.Progress {
	p := snapshot.Progress{Name: t.s.rec.Name, Elapsed: t.s.c.cfg.Now().Sub(t.s.start), Written: map[string]int64{}}
	p.Read, p.Total = t.read.Far()
	for backend, x := range t.taken {
		p.Written[backend], _ = x.Far()
	}
	return p
}
