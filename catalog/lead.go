package catalog

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/snapshot"
)

// standAgain is the pause before standing for election again when etcd cannot be reached.
const standAgain = 2 * time.Second

// Lead stands for election as the cluster's leader under name and calls lead whenever it is elected, with a context that
// ends with the leadership. It goes on until ctx is done, and returns its cause when lead has returned and the leadership
// was given up for others to take at once.
func (c *Catalog) Lead(ctx context.Context, name string, lead func(context.Context, *Term)) error {
	var away error
	for ctx.Err() == nil {
		l, held, err := c.acquire(ctx, "campaign", "stand for election", c.keys.leader(), name)
		switch {
		case err == nil:
			away = nil
			c.leadWith(ctx, l, lead)
		case errors.Is(err, snapshot.ErrLocked):
			away = nil
			c.awaitVacancy(ctx, held)
		default:
			if away == nil && ctx.Err() == nil {
				c.cfg.Logger.WarnContext(ctx, "cannot stand for election; trying on", "error", err)
			}
			away = err
			_ = backoff.Wait(ctx, standAgain)
		}
	}
	return context.Cause(ctx)
}

// errDeposed ends the context of a leader whose lease is lost.
var errDeposed = errors.New("the leadership is lost")

func (c *Catalog) leadWith(ctx context.Context, l *lease, lead func(context.Context, *Term)) {
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
	lead(leading, &Term{c, l.id})
	end(nil)
	<-watched
}

// awaitVacancy returns when the leader may be gone that was seen at a revision. A watch that breaks is no news; the next
// attempt tells.
func (c *Catalog) awaitVacancy(ctx context.Context, seen int64) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.LockTTL)
	defer cancel()
	client, err := c.cfg.Connect(ctx)
	if err != nil {
		_ = backoff.Wait(ctx, standAgain)
		return
	}
	for resp := range client.Watch(clientv3.WithRequireLeader(ctx), c.keys.leader(), clientv3.WithRev(seen+1), clientv3.WithFilterPut()) {
		if len(resp.Events) > 0 {
			return
		}
		if resp.Err() != nil {
			_ = backoff.Wait(ctx, standAgain)
			return
		}
	}
}
