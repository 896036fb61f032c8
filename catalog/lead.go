package catalog

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/snapshot"
)

// retryInterval is the pause before standing for election again when etcd cannot be reached.
const retryInterval = 2 * time.Second

// Lead stands for election as the cluster's leader under name and calls lead whenever it is elected, with a context
// that ends with the leadership. It goes on until ctx is done. It returns the cause of ctx after lead has returned and
// the leadership was given up, so that another replica can take it at once. The names of replicas differ.
func (c *Catalog) Lead(ctx context.Context, name string, lead func(context.Context, *Term)) error {
	var lastErr error
	var waiting time.Time // since when another replica has led
	for ctx.Err() == nil {
		l, held, err := c.acquire(ctx, "campaign", "stand for election", c.keys.leader(), name)
		switch {
		case err == nil:
			if lastErr = nil; !waiting.IsZero() {
				c.takeBack(ctx, name)
			}
			waiting = time.Time{}
			if c.leadWith(ctx, l, name, lead) {
				_ = backoff.Wait(ctx, handoverPause)
			}
		case errors.Is(err, snapshot.ErrLocked):
			lastErr = nil
			if waiting.IsZero() {
				waiting = time.Now()
			}
			c.mayAsk(ctx, name, waiting)
			c.awaitVacancy(ctx, held)
		default:
			if lastErr == nil && ctx.Err() == nil {
				c.cfg.Logger.WarnContext(ctx, "cannot stand for election; trying again", "error", err)
			}
			lastErr = err
			_ = backoff.Wait(ctx, retryInterval)
		}
	}
	return context.Cause(ctx)
}

// Why the context of a leader ends.
var (
	errDeposed = errors.New("the leadership is lost")
	errGaveWay = errors.New("another replica asked for the leadership")
)

// leadWith leads until the lease is lost, lead returns or ctx is done. It returns true when another replica is to lead.
func (c *Catalog) leadWith(ctx context.Context, l *lease, name string, lead func(context.Context, *Term)) (gaveWay bool) {
	defer l.Unlock(ctx)
	leading, end := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-l.Lost():
			end(errDeposed)
		case <-leading.Done():
		}
	}()
	lead(leading, &Term{catalog: c, lease: l.id, name: name, end: end})
	end(nil)
	<-watched
	return errors.Is(context.Cause(leading), errGaveWay)
}

// awaitVacancy returns when the leader that was seen at a revision may be gone. It also returns when the watch breaks:
// the next attempt shows whether there is a leader.
func (c *Catalog) awaitVacancy(ctx context.Context, seen int64) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.LockTTL)
	defer cancel()
	client, err := c.cfg.Connect(ctx)
	if err != nil {
		_ = backoff.Wait(ctx, retryInterval)
		return
	}
	watched := client.Watch(clientv3.WithRequireLeader(ctx), c.keys.leader(),
		clientv3.WithRev(seen+1), clientv3.WithFilterPut())
	for resp := range watched {
		if len(resp.Events) > 0 {
			return
		}
		if resp.Err() != nil {
			_ = backoff.Wait(ctx, retryInterval)
			return
		}
	}
}
