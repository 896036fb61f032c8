package catalog

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The pause before standing for election again when etcd cannot be reached grows from one to the other: an etcd that is
// too busy for thousands of clusters must not be asked all the more.
const (
	retryInterval = 2 * time.Second
	retryLimit    = 15 * time.Second
	retrySpread   = 0.25
)

// Lead stands for election as the cluster's leader under name and calls lead whenever it is elected, with a context
// that ends with the leadership. It goes on until ctx is done. It returns the cause of ctx after lead has returned and
// the leadership was given up, so that another replica can take it at once. The names of replicas differ.
func (c *Catalog) Lead(ctx context.Context, name string, lead func(context.Context, *Term)) error {
	failed := 0       // attempts, one after the other
	var ask time.Time // when to ask for the leadership; zero while no other replica leads
	for ctx.Err() == nil {
		l, held, err := c.acquire(ctx, "campaign", "stand for election", c.keys.leader(), name)
		switch {
		case err == nil:
			if failed = 0; !ask.IsZero() {
				c.takeBack(ctx, name)
			}
			ask = time.Time{}
			if c.leadWith(ctx, l, name, lead) {
				_ = backoff.Wait(ctx, handoverPause)
			}
		case errors.Is(err, snapshot.ErrLocked):
			failed = 0
			switch {
			case ask.IsZero():
				ask = c.firstAsk()
			case !time.Now().Before(ask):
				ask = time.Now().Add(c.ask(ctx, name))
			}
			if c.awaitChange(ctx, held, ask) {
				ask = c.firstAsk()
			}
		default:
			if failed == 0 && ctx.Err() == nil {
				c.cfg.Logger.WarnContext(ctx, "cannot stand for election; trying again", "error", err)
			}
			failed++
			_ = backoff.Wait(ctx, backoff.Spread(backoff.Delay(retryInterval, retryLimit, failed), retrySpread))
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
func (c *Catalog) leadWith(
	ctx context.Context, l *lease, name string, lead func(context.Context, *Term),
) (gaveWay bool) {
	leading, end := context.WithCancelCause(ctx)
	l.hold(ctx, func() { end(errDeposed) })
	defer l.Unlock(ctx)
	lead(leading, &Term{catalog: c, lease: l.id, name: name, end: end})
	end(nil)
	return errors.Is(context.Cause(leading), errGaveWay)
}

// awaitChange returns true when the leader that was seen at a revision is gone or another one, and false at a time, or
// when etcd does not say: then the next attempt shows whether there is a leader.
func (c *Catalog) awaitChange(ctx context.Context, seen int64, until time.Time) bool {
	watching, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	err := c.watchLeader(watching, seen+1)
	if err != nil && watching.Err() == nil {
		_ = backoff.Wait(ctx, retryInterval)
	}
	return err == nil
}

// watchLeader returns nil when the leader's key has changed at a revision or after it. clientv3's watch has four
// goroutines, and a replica may wait for the leaders of thousands of clusters; this one has the caller's and one of
// gRPC.
func (c *Catalog) watchLeader(ctx context.Context, from int64) error {
	client, err := c.cfg.Connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	stream, err := etcdserverpb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
	if err != nil {
		return err
	}
	create := &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(c.keys.leader()), StartRevision: from},
	}
	if err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: create}); err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		switch {
		case err != nil:
			return err
		case resp.GetCanceled():
			return errors.New(resp.GetCancelReason())
		case len(resp.GetEvents()) > 0:
			return nil
		}
	}
}
