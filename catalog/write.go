package catalog

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Create adds a record, and makes its request id lead to it if it leads to none.
func (c *Catalog) Create(ctx context.Context, r *snapshot.Record) error {
	value, err := c.encode(r, nil)
	if err != nil {
		return err
	}
	key := c.keys.record(r.Name)
	ops := []clientv3.Op{clientv3.OpPut(key, value), clientv3.OpPut(c.keys.byTime(&r.Snapshot), "")}
	if r.RequestID != "" {
		ops = append(ops, c.leadRequest(r)) // a record that was found again does not displace a newer save
	}
	what := fmt.Sprintf("create the record of %q", r.Name)
	return c.do(ctx, "create", what, func(ctx context.Context, client *clientv3.Client, again bool) error {
		done, current, err := c.change(ctx, client, key, 0, ops)
		switch {
		case err != nil:
			return err
		case done > 0:
			setVersion(r, done)
		case again && current != nil && string(current.Value) == value:
			setVersion(r, current.ModRevision)
		default:
			return fmt.Errorf("%s: %w", what, snapshot.ErrExists)
		}
		return nil
	})
}

// Update replaces a record and the keys that are derived from it.
func (c *Catalog) Update(ctx context.Context, r *snapshot.Record) error {
	var value string // as an attempt wrote it
	key := c.keys.record(r.Name)
	what := fmt.Sprintf("update the record of %q", r.Name)
	return c.do(ctx, "update", what, func(ctx context.Context, client *clientv3.Client, again bool) error {
		current, err := c.get(ctx, client, key)
		if err != nil {
			return err
		}
		var done int64
		if current != nil && current.ModRevision == r.Version {
			stored, err := c.parse(current)
			if err != nil {
				return err
			}
			if value, err = c.encode(r, stored); err != nil {
				return err
			}
			ops := append(c.replaceIndex(recordOf(stored, r.Version), r), clientv3.OpPut(key, value))
			if done, current, err = c.change(ctx, client, key, r.Version, ops); err != nil {
				return err
			}
		}
		switch {
		case done > 0:
			setVersion(r, done)
		case again && current != nil && string(current.Value) == value:
			setVersion(r, current.ModRevision)
		default:
			return fmt.Errorf("%s: %w", what, snapshot.ErrConflict)
		}
		return nil
	})
}

// replaceIndex returns the changes of the keys that are derived from a record. A request id that leads to another
// snapshot is left alone: that one is newer.
func (c *Catalog) replaceIndex(old, r *snapshot.Record) []clientv3.Op {
	var ops []clientv3.Op
	if c.keys.byTime(&old.Snapshot) != c.keys.byTime(&r.Snapshot) {
		ops = append(ops, clientv3.OpDelete(c.keys.byTime(&old.Snapshot)))
	}
	ops = append(ops, clientv3.OpPut(c.keys.byTime(&r.Snapshot), ""))
	if old.RequestID != "" && old.RequestID != r.RequestID {
		ops = append(ops, c.forgetRequest(old))
	}
	if r.RequestID != "" {
		ops = append(ops, c.leadRequest(r))
	}
	return ops
}

// leadRequest makes a request id lead to this record if it leads to none.
func (c *Catalog) leadRequest(r *snapshot.Record) clientv3.Op {
	key := c.keys.request(r.RequestID)
	absent := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}
	return clientv3.OpTxn(absent, []clientv3.Op{clientv3.OpPut(key, r.Name)}, nil)
}

// forgetRequest removes a request id if it leads to this record.
func (c *Catalog) forgetRequest(r *snapshot.Record) clientv3.Op {
	key := c.keys.request(r.RequestID)
	ours := []clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", r.Name)}
	return clientv3.OpTxn(ours, []clientv3.Op{clientv3.OpDelete(key)}, nil)
}

// Remove removes a record and the keys that are derived from it.
func (c *Catalog) Remove(ctx context.Context, r *snapshot.Record) error {
	key := c.keys.record(r.Name)
	what := fmt.Sprintf("remove the record of %q", r.Name)
	return c.do(ctx, "remove", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		current, err := c.get(ctx, client, key)
		if err != nil || current == nil {
			return err
		}
		if current.ModRevision == r.Version {
			old, err := c.decode(current)
			if err != nil {
				return err
			}
			ops := []clientv3.Op{clientv3.OpDelete(key), clientv3.OpDelete(c.keys.byTime(&old.Snapshot))}
			if old.RequestID != "" {
				ops = append(ops, c.forgetRequest(old))
			}
			var done int64
			if done, current, err = c.change(ctx, client, key, r.Version, ops); err != nil || done > 0 || current == nil {
				return err
			}
		}
		return fmt.Errorf("%s: %w", what, snapshot.ErrConflict)
	})
}

// change makes a transaction if key is at a revision (0: it does not exist). It returns the revision of the
// transaction, or 0 and the current value of key instead.
func (c *Catalog) change(
	ctx context.Context, client *clientv3.Client, key string, at int64, ops []clientv3.Op,
) (done int64, current *mvccpb.KeyValue, err error) {
	resp, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", at)).Then(ops...).
		Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return 0, nil, err
	}
	if resp.Succeeded {
		return resp.Header.Revision, nil, nil
	}
	if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		current = kvs[0]
	}
	return 0, current, nil
}

// get returns a key with its value; nil when it does not exist.
func (c *Catalog) get(ctx context.Context, client *clientv3.Client, key string) (*mvccpb.KeyValue, error) {
	resp, err := client.Get(ctx, key)
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}
