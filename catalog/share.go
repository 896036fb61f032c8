package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/span"
)

// Replicas share the clusters, so that none does the work of all. Each cluster has an order of replicas, which follows
// from the names alone. A replica that waits and comes before the leader asks for the leadership, and the leader gives
// way when it has no work under way. Nobody has to know how many replicas there are, and a leader that does not know
// the question stays.

const (
	// handoverPause lets the replica that asked be elected.
	handoverPause = 5 * time.Second
	// askersAtATime is the share of waiting replicas, as one in so many, that ask in one round: the clusters that are to
	// change hands do not all do so at once.
	askersAtATime = 4
)

// before reports whether replica a comes before replica b in the cluster's order.
func (c *Catalog) before(a, b string) bool {
	place := func(replica string) []byte {
		sum := sha256.Sum256([]byte(c.cfg.Cluster + "\x00" + replica))
		return sum[:]
	}
	return bytes.Compare(place(a), place(b)) < 0
}

// mayAsk asks for the leadership when this replica has waited long enough to be taken for one that stays.
func (c *Catalog) mayAsk(ctx context.Context, name string, waitingSince time.Time) {
	if time.Since(waitingSince) < c.cfg.AskAfter || rand.IntN(askersAtATime) > 0 { //nolint:gosec // it keeps no secret
		return
	}
	err := c.do(span.Outside(ctx), "ask", "ask for the leadership", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		leader, err := c.get(ctx, client, c.keys.leader())
		if err != nil || leader == nil || !c.before(name, string(leader.Value)) {
			return err
		}
		_, err = client.Put(ctx, c.keys.successor(), name)
		return err
	})
	if err != nil {
		c.cfg.Logger.DebugContext(ctx, "leadership not asked for", "error", err)
	}
}

// awaitQuestion returns true when a replica that comes before this one asks for the leadership, and false when ctx is
// done.
func (c *Catalog) awaitQuestion(ctx context.Context, name string) bool {
	for ctx.Err() == nil {
		client, err := c.cfg.Connect(ctx)
		if err == nil {
			for resp := range client.Watch(ctx, c.keys.successor(), clientv3.WithFilterDelete()) {
				for _, e := range resp.Events {
					if c.before(string(e.Kv.Value), name) {
						return true
					}
				}
			}
		}
		_ = backoff.Wait(ctx, retryInterval)
	}
	return false
}
