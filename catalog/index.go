package catalog

import (
	"context"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/snapshot"
)

// The index by time follows from the records. Whoever can write to etcd can add keys to it and remove some; a listing
// believes the records alone, and what is wrong with the index is put right where it is met. Each change is on
// condition that the key and its record are as they were seen. Keys that are not of the index's form are left alone.

// addToIndex adds the keys that records, read at a revision, lack in the index by time: they would be in no listing. It
// does as much as it can.
func (c *Catalog) addToIndex(ctx context.Context, recs []*snapshot.Record, revision int64) {
	recs = slices.DeleteFunc(slices.Clone(recs), func(r *snapshot.Record) bool { return r == nil })
	for some := range slices.Chunk(recs, recordChunk) {
		lacking, err := c.lacking(ctx, some, revision)
		if err == nil && len(lacking) > 0 {
			err = c.txn(ctx, "index", "add to the index by time", lacking)
		}
		switch {
		case err != nil:
			c.cfg.Logger.WarnContext(ctx, "index by time is not complete; a listing may lack snapshots", "error", err)
			return
		case len(lacking) > 0:
			c.cfg.Logger.WarnContext(ctx, "index by time lacked snapshots; they are added", "count", len(lacking))
		}
	}
}

// lacking returns the changes that add the entries which the index by time lacked at a revision.
func (c *Catalog) lacking(
	ctx context.Context, recs []*snapshot.Record, revision int64,
) (changes []clientv3.Op, err error) {
	gets := make([]clientv3.Op, len(recs))
	for i, r := range recs {
		gets[i] = clientv3.OpGet(c.keys.byTime(&r.Snapshot), clientv3.WithKeysOnly(), clientv3.WithRev(revision))
	}
	err = c.do(ctx, "index", "read the index by time", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		changes = nil
		resp, err := client.Txn(ctx).Then(gets...).Commit()
		if isGone(err) {
			return nil // the next scan looks again
		}
		if err != nil {
			return err
		}
		for i, r := range recs {
			if len(resp.Responses[i].GetResponseRange().GetKvs()) == 0 {
				key := c.keys.byTime(&r.Snapshot)
				unchanged := []clientv3.Cmp{
					clientv3.Compare(clientv3.ModRevision(c.keys.record(r.Name)), "=", r.Version),
					clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
				}
				changes = append(changes, clientv3.OpTxn(unchanged, []clientv3.Op{clientv3.OpPut(key, "")}, nil))
			}
		}
		return nil
	})
	return changes, err
}

// entry is a key of the index by time.
type entry struct {
	key      string
	name     string
	revision int64 // of the key
}

// stray is an entry that no record has made.
type stray struct {
	entry
	record int64 // the revision of the record to which it leads; 0 when there is none
}

// removeStrays removes entries that no record has made. It does as much as it can.
func (c *Catalog) removeStrays(ctx context.Context, strays []stray) {
	for some := range slices.Chunk(strays, recordChunk) {
		var changes []clientv3.Op
		for _, s := range some {
			unchanged := []clientv3.Cmp{
				clientv3.Compare(clientv3.ModRevision(s.key), "=", s.revision),
				clientv3.Compare(clientv3.ModRevision(c.keys.record(s.name)), "=", s.record),
			}
			changes = append(changes, clientv3.OpTxn(unchanged, []clientv3.Op{clientv3.OpDelete(s.key)}, nil))
		}
		if err := c.txn(ctx, "index", "remove from the index by time", changes); err != nil {
			c.cfg.Logger.WarnContext(ctx, "wrong keys are left in the index by time", "error", err)
			return
		}
		c.cfg.Logger.WarnContext(ctx, "keys without a record of their time were in the index by time; they are removed",
			"count", len(some), "first", some[0].key)
	}
}

// txn makes changes in one transaction, each on its own condition.
func (c *Catalog) txn(ctx context.Context, op, what string, changes []clientv3.Op) error {
	return c.do(ctx, op, what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		_, err := client.Txn(ctx).Then(changes...).Commit()
		return err
	})
}
