package catalog

import (
	"context"
	"fmt"

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
	return l, nil
}

// LockOwner returns the owner of the save lock; empty when it is free.
func (c *Catalog) LockOwner(ctx context.Context) (owner string, err error) {
	err = c.do(ctx, "lock owner", "read the save lock", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		kv, err := c.get(ctx, client, c.keys.lock())
		owner = string(kv.GetValue())
		return err
	})
	return owner, err
}

// acquire puts value under a free key, on a lease of its own. When the key is taken, the error wraps ErrLocked, and
// held is the revision at which that was seen.
func (c *Catalog) acquire(ctx context.Context, op, what, key, value string) (l *lease, held int64, err error) {
	err = c.do(ctx, op, what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		if l == nil {
			// A caller that comes second does not cost etcd a lease.
			resp, err := client.Get(ctx, key)
			if err != nil {
				return err
			}
			if held = resp.Header.Revision; len(resp.Kvs) > 0 {
				return fmt.Errorf("%s: %w by %q", what, snapshot.ErrLocked, resp.Kvs[0].Value)
			}
			if l, err = c.grant(ctx, client); err != nil {
				return err
			}
		}
		put := clientv3.OpPut(key, value, clientv3.WithLease(l.id))
		done, current, err := c.change(ctx, client, key, 0, []clientv3.Op{put})
		switch {
		case err != nil:
			return err
		case done > 0, current != nil && current.Lease == int64(l.id): // an earlier attempt did it unseen
			return nil
		default:
			held = current.GetModRevision()
			return fmt.Errorf("%s: %w by %q", what, snapshot.ErrLocked, current.GetValue())
		}
	})
	if err != nil {
		if l != nil {
			l.revoke(ctx)
		}
		return nil, held, err
	}
	l.hold(ctx)
	return l, held, nil
}
