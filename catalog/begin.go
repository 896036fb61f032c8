package catalog

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Begin adds the record of a save and takes its request over from old.
func (c *Catalog) Begin(ctx context.Context, r, old *snapshot.Record) error {
	value, err := c.encode(r, nil)
	if err != nil {
		return err
	}
	b := c.beginning(r, old, value)
	return c.do(ctx, "begin", b.what, func(ctx context.Context, client *clientv3.Client, again bool) error {
		led, err := c.leadsTo(ctx, client, r.RequestID, old)
		if err != nil {
			return err
		}
		puts := slices.Clone(b.puts)
		if old != nil {
			was, err := c.encodeOver(ctx, client, old)
			if err != nil {
				return err
			}
			puts = append(puts, clientv3.OpPut(c.keys.record(old.Name), was))
		}
		resp, err := client.Txn(ctx).If(append(led, b.unless...)...).Then(puts...).
			Else(clientv3.OpGet(b.key), clientv3.OpGet(c.keys.lock())).Commit()
		if err != nil {
			return err
		}
		if resp.Succeeded {
			setVersion(r, resp.Header.Revision)
			return nil
		}
		there, lock := resp.Responses[0].GetResponseRange().GetKvs(), resp.Responses[1].GetResponseRange().GetKvs()
		if again && len(there) > 0 && string(there[0].Value) == value { // an earlier attempt did it unseen
			setVersion(r, there[0].ModRevision)
			return nil
		}
		return b.refused(there, lock)
	})
}

// beginning is the transaction that begins a record, but for its request, which is looked up with each attempt.
type beginning struct {
	what, key, owner string
	unless           []clientv3.Cmp
	puts             []clientv3.Op
}

func (c *Catalog) beginning(r, old *snapshot.Record, value string) beginning {
	key := c.keys.record(r.Name)
	b := beginning{
		what: fmt.Sprintf("begin the record of %q", r.Name), key: key, owner: r.Owner(),
		unless: []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
		puts:   []clientv3.Op{clientv3.OpPut(key, value), clientv3.OpPut(c.keys.byTime(&r.Snapshot), "")},
	}
	if b.owner != "" {
		b.unless = append(b.unless, clientv3.Compare(clientv3.Value(c.keys.lock()), "=", b.owner),
			clientv3.Compare(clientv3.LeaseValue(c.keys.lock()), "!=", clientv3.NoLease))
	}
	if r.RequestID != "" {
		b.puts = append(b.puts, clientv3.OpPut(c.keys.request(r.RequestID), r.Name))
	}
	if old != nil {
		b.unless = append(b.unless, clientv3.Compare(clientv3.ModRevision(c.keys.record(old.Name)), "=", old.Version))
	}
	return b
}

// refused says which of its conditions did not hold, by the keys of the record and of the lock as they were then.
func (b beginning) refused(there, lock []*mvccpb.KeyValue) error {
	switch {
	case len(there) > 0:
		return fmt.Errorf("%s: %w", b.what, snapshot.ErrExists)
	case b.owner != "" && (len(lock) == 0 || string(lock[0].Value) != b.owner || lock[0].Lease == 0):
		return fmt.Errorf("%s: the save lock was lost: %w", b.what, snapshot.ErrLocked)
	default:
		return fmt.Errorf("%s: %w", b.what, snapshot.ErrConflict)
	}
}

// encodeOver returns a record as it is stored in place of the one that was read. When that has changed, the transaction
// will not be made, and the value is of no importance.
func (c *Catalog) encodeOver(ctx context.Context, client *clientv3.Client, r *snapshot.Record) (string, error) {
	kv, err := c.get(ctx, client, c.keys.record(r.Name))
	if err != nil {
		return "", err
	}
	var stored *catalogv1.Record
	if kv != nil && kv.ModRevision == r.Version {
		if stored, err = c.parse(kv); err != nil {
			return "", err
		}
	}
	return c.encode(r, stored)
}

// leadsTo returns the condition that a request leads to old, or to no record at all. A request whose record was removed
// by hand, cannot be read or is of another request, leads to none.
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
	entry, err := c.get(ctx, client, key)
	if err != nil || entry == nil {
		return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)}, err
	}
	led := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", entry.ModRevision)}
	name := string(entry.Value)
	if !snapshot.ValidName(name) {
		return led, nil
	}
	kv, err := c.get(ctx, client, c.keys.record(name))
	if err != nil {
		return nil, err
	}
	var at int64 // no record
	if kv != nil && c.ofRequest(kv, id) != nil {
		at = kv.ModRevision
	}
	return append(led, clientv3.Compare(clientv3.ModRevision(c.keys.record(name)), "=", at)), nil
}
