package catalog

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Begin adds the record of a save and takes its request over from old.
func (c *Catalog) Begin(ctx context.Context, r, old *snapshot.Record) error {
	value, err := encode(r)
	if err != nil {
		return err
	}
	key := c.keys.record(r.Name)
	unless := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}
	ops := []clientv3.Op{clientv3.OpPut(key, value), clientv3.OpPut(c.keys.byTime(&r.Snapshot), "")}
	owner := r.Owner()
	if owner != "" {
		unless = append(unless, clientv3.Compare(clientv3.Value(c.keys.lock()), "=", owner))
	}
	if r.RequestID != "" {
		ops = append(ops, clientv3.OpPut(c.keys.request(r.RequestID), r.Name))
	}
	if old != nil {
		was, err := encode(old)
		if err != nil {
			return err
		}
		unless = append(unless, clientv3.Compare(clientv3.ModRevision(c.keys.record(old.Name)), "=", old.Version))
		ops = append(ops, clientv3.OpPut(c.keys.record(old.Name), was))
	}
	what := fmt.Sprintf("begin the record of %q", r.Name)
	return c.do(ctx, "begin", what, func(ctx context.Context, client *clientv3.Client, again bool) error {
		led, err := c.leadsTo(ctx, client, r.RequestID, old)
		if err != nil {
			return err
		}
		resp, err := client.Txn(ctx).If(append(led, unless...)...).Then(ops...).
			Else(clientv3.OpGet(key), clientv3.OpGet(c.keys.lock())).Commit()
		if err != nil {
			return err
		}
		if resp.Succeeded {
			setVersion(r, resp.Header.Revision)
			return nil
		}
		there, lock := resp.Responses[0].GetResponseRange().GetKvs(), resp.Responses[1].GetResponseRange().GetKvs()
		switch {
		case again && len(there) > 0 && string(there[0].Value) == value: // an earlier attempt did it unseen
			setVersion(r, there[0].ModRevision)
			return nil
		case len(there) > 0:
			return fmt.Errorf("%s: %w", what, snapshot.ErrExists)
		case owner != "" && (len(lock) == 0 || string(lock[0].Value) != owner):
			return fmt.Errorf("%s: the save lock was lost: %w", what, snapshot.ErrLocked)
		default:
			return fmt.Errorf("%s: %w", what, snapshot.ErrConflict)
		}
	})
}

// leadsTo returns the condition that a request leads to old, or to no record at all. A request whose record was removed
// by hand leads to none.
func (c *Catalog) leadsTo(
	ctx context.Context, client *clientv3.Client, id string, old *snapshot.Record,
) ([]clientv3.Cmp, error) {
	if id == "" {
		return nil, nil
	}
	key := c.keys.request(id)
	if old != nil {
		return []clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", old.Name)}, nil
	}
	kv, err := c.get(ctx, client, key)
	if err != nil || kv == nil {
		return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}, err
	}
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision),
		clientv3.Compare(clientv3.CreateRevision(c.keys.record(string(kv.Value))), "=", 0),
	}, nil
}
