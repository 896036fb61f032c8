package catalog

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Lock takes the save lock for owner, or returns ErrLocked at once.
func (c *Catalog) Lock(ctx context.Context, owner string) (cluster.Lock, error) {
	l, _, err := c.acquire(ctx, "lock", "take the save lock", c.keys.lock(), owner)
	if err != nil {
		return nil, err
	}
	l.hold(ctx, func() {})
	return l, nil
}

// LockOwner returns the owner of the save lock; empty when no replica holds it.
func (c *Catalog) LockOwner(ctx context.Context) (string, error) {
	return c.holderName(ctx, "lock owner", "read the save lock", c.keys.lock())
}

// Leader returns the name of the replica that leads; empty when none does.
func (c *Catalog) Leader(ctx context.Context) (string, error) {
	return c.holderName(ctx, "leader", "read who leads", c.keys.leader())
}

// holderName returns the name of the replica that holds a key; empty when none does.
func (c *Catalog) holderName(ctx context.Context, op, what, key string) (name string, err error) {
	err = c.do(ctx, op, what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		name = ""
		kv, err := c.get(ctx, client, key)
		if err == nil && kv != nil {
			name = c.inspectHolder(ctx, client, kv).name
		}
		return err
	})
	return name, err
}

// acquire puts value under a key that is free, or that holds no replica's lock, on a lease of its own, which the caller
// holds from then on. When a replica holds it, the error wraps ErrLocked, and held is the revision at which that was
// seen.
func (c *Catalog) acquire(ctx context.Context, op, what, key, value string) (l *lease, held int64, err error) {
	if _, err := holderOf([]byte(value)); err != nil {
		return nil, 0, snapshot.ReasonInternal.New("%s for %.100q", what, value).Because(err)
	}
	a := &acquisition{Catalog: c, what: what, key: key, value: value}
	err = c.do(ctx, op, what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		resp, err := client.Get(ctx, key)
		if err != nil {
			return err
		}
		a.held, a.found = resp.Header.Revision, nil
		if len(resp.Kvs) > 0 {
			a.found = resp.Kvs[0]
		}
		for range takeovers {
			if done, err := a.try(ctx, client); done || err != nil {
				return err
			}
		}
		return fmt.Errorf("%s: %w: the key %q was changed again and again meanwhile", what, snapshot.ErrLocked, key)
	})
	if err != nil {
		if a.lease != nil {
			a.lease.revoke(ctx)
		}
		return nil, a.held, err
	}
	a.lease.key = key
	return a.lease, a.held, nil
}

// takeovers is how often a lock is tried while the value in its place changes and is no replica's.
const takeovers = 4

// acquisition is one attempt at a lock.
type acquisition struct {
	*Catalog
	what, key, value string

	found *mvccpb.KeyValue // under the key; nil when it is free
	held  int64            // the revision at which found was seen
	lease *lease           // of the lock, once one was granted
}

// try takes the lock if the value that was found under its key is still there. It returns false when that has changed.
func (a *acquisition) try(ctx context.Context, client *clientv3.Client) (done bool, err error) {
	if a.lease != nil && a.found.GetLease() == int64(a.lease.id) {
		return true, nil // an earlier attempt did it unseen
	}
	var forged error
	if a.found != nil {
		h := a.inspectHolder(ctx, client, a.found)
		if h.forged == nil {
			return false, h.locked(a.what, a.key)
		}
		forged = h.forged
	}
	if a.lease == nil { // a caller that comes second does not cost etcd a lease
		if a.lease, err = a.grant(ctx, client); err != nil {
			return false, err
		}
	}
	put := clientv3.OpPut(a.key, a.value, clientv3.WithLease(a.lease.id))
	revision, current, err := a.change(ctx, client, a.key, a.found.GetModRevision(), []clientv3.Op{put})
	switch {
	case err != nil:
		return false, err
	case revision == 0:
		a.found, a.held = current, max(a.held, current.GetModRevision())
		return false, nil
	case forged != nil:
		a.cfg.Logger.WarnContext(ctx, "lock of no replica was in the way and is taken over", "key", a.key,
			"value", fmt.Sprintf("%.80q", a.found.GetValue()), "error", forged)
	}
	return true, nil
}
