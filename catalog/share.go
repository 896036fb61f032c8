package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/span"
)

// Replicas share the clusters, so that none does the work of all. Each cluster has an order of replicas, which follows
// from the names alone. A replica that waits and comes before the leader asks for the leadership: it writes its name
// under a key. The leader looks at the key when it has ended other work, and gives way. Nobody has to know how many
// replicas there are, and a leader that does not know the question stays.

const (
	// handoverPause lets another replica be elected.
	handoverPause = 5 * time.Second
	// askSpread: replicas that wait ask at different times, in so many times the life of a lease.
	askSpread = 4
	// settled: whether to ask is looked at again after so many times the life of a lease, although the leader did not
	// change.
	settled = 40
)

// before reports whether replica a comes before replica b in the cluster's order.
func (c *Catalog) before(a, b string) bool {
	place := func(replica string) []byte {
		sum := sha256.Sum256([]byte(c.cfg.Cluster + "\x00" + replica))
		return sum[:]
	}
	return bytes.Compare(place(a), place(b)) < 0
}

// firstAsk returns when a replica that begins to wait for a leader may ask: when it is taken for one that stays.
func (c *Catalog) firstAsk() time.Time {
	spread := time.Duration(rand.Float64() * askSpread * float64(c.cfg.LockTTL)) //nolint:gosec // it keeps no secret
	return time.Now().Add(c.cfg.AskAfter + spread)
}

// ask asks for the leadership, unless the leader or another one that has asked comes before this replica. It returns
// when to look at that again, if the leader does not change before.
func (c *Catalog) ask(ctx context.Context, name string) (pause time.Duration) {
	err := c.do(span.Outside(ctx), "ask", "ask for the leadership",
		func(ctx context.Context, client *clientv3.Client, _ bool) error {
			for _, key := range []string{c.keys.leader(), c.keys.successor()} {
				other, err := c.get(ctx, client, key)
				if err != nil || other != nil && !c.before(name, string(other.Value)) {
					return err
				}
			}
			_, err := client.Put(ctx, c.keys.successor(), name)
			return err
		})
	if err != nil {
		c.cfg.Logger.DebugContext(ctx, "leadership not asked for", "error", err)
		return c.cfg.LockTTL
	}
	return settled * c.cfg.LockTTL
}

// takeBack removes a question of this replica that was written while the leader gave way. It would be taken for a new
// one by the next leader.
func (c *Catalog) takeBack(ctx context.Context, name string) {
	err := c.do(span.Outside(ctx), "take back", "take back the question for the leadership",
		func(ctx context.Context, client *clientv3.Client, _ bool) error {
			_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Value(c.keys.successor()), "=", name)).
				Then(clientv3.OpDelete(c.keys.successor())).Commit()
			return err
		})
	if err != nil {
		c.cfg.Logger.DebugContext(ctx, "question for the leadership not taken back", "error", err)
	}
}

// Asked reports whether a replica that comes before this one in the cluster's order has asked for the leadership.
func (t *Term) Asked(ctx context.Context) (bool, error) {
	c := t.catalog
	kv, err := c.value(ctx, "asked", "read who asks for the leadership", c.keys.successor())
	return err == nil && kv != nil && c.before(string(kv.Value), t.name), err
}

// GiveWay ends the term, so that the replica that has asked can lead, if it can be elected. The question is answered: a
// replica that runs no more does not ask again.
func (t *Term) GiveWay(ctx context.Context) error {
	c := t.catalog
	err := c.do(ctx, "give way", "give way to another leader",
		func(ctx context.Context, client *clientv3.Client, _ bool) error {
			// An etcd without space elects nobody. It refuses a write, too, but no removal.
			_, err := client.Put(ctx, c.keys.successor(), t.name)
			if err == nil {
				_, err = client.Delete(ctx, c.keys.successor())
			}
			return err
		})
	if err == nil {
		t.end(errGaveWay)
	}
	return err
}
