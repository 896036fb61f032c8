package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/snapshot"
)

// scanChunk is how many records a scan reads at a time; a record has a few kilobytes, and 25 with the most labels.
const scanChunk = 500

// Get returns a record.
func (c *Catalog) Get(ctx context.Context, name string) (*snapshot.Record, error) {
	find := func(ctx context.Context, client *clientv3.Client) (*mvccpb.KeyValue, error) {
		return c.get(ctx, client, c.keys.record(name))
	}
	return c.read(ctx, "get", fmt.Sprintf("read the record of %q", name), find)
}

// ByRequestID returns the record of the newest save with this request id.
func (c *Catalog) ByRequestID(ctx context.Context, id string) (*snapshot.Record, error) {
	find := func(ctx context.Context, client *clientv3.Client) (*mvccpb.KeyValue, error) {
		kv, err := c.get(ctx, client, c.keys.request(id))
		if err != nil || kv == nil {
			return nil, err
		}
		return c.get(ctx, client, c.keys.record(string(kv.Value)))
	}
	return c.read(ctx, "get by request", fmt.Sprintf("read the record of request %q", id), find)
}

// finder returns the key and value of a record; nil when there is none.
type finder func(context.Context, *clientv3.Client) (*mvccpb.KeyValue, error)

func (c *Catalog) read(ctx context.Context, op, what string, find finder) (rec *snapshot.Record, err error) {
	err = c.do(ctx, op, what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		kv, err := find(ctx, client)
		if err == nil && kv == nil {
			err = fmt.Errorf("%s: %w", what, snapshot.ErrNotFound)
		}
		if err != nil {
			return err
		}
		rec, err = c.decode(kv)
		return err
	})
	return rec, err
}

// Scan yields all records, a chunk at a time, as of the revision of the first chunk; when that one is compacted on the
// way, the rest is as of a newer one.
func (c *Catalog) Scan(ctx context.Context) iter.Seq2[*snapshot.Record, error] {
	return func(yield func(*snapshot.Record, error) bool) {
		var revision int64
		from := c.keys.records()
		for more := true; more; {
			kvs, err := c.chunk(ctx, from, &revision, &more)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, kv := range kvs {
				rec, err := c.decode(kv)
				if !yield(rec, err) || err != nil {
					return
				}
				from = string(kv.Key) + "\x00"
			}
		}
	}
}

// chunk reads records from a key on at a revision (0: the current one, which it then sets).
func (c *Catalog) chunk(
	ctx context.Context, from string, revision *int64, more *bool,
) (kvs []*mvccpb.KeyValue, err error) {
	end := clientv3.GetPrefixRangeEnd(c.keys.records())
	err = c.do(ctx, "scan", "read the records", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		resp, err := client.Get(ctx, from,
			clientv3.WithRange(end), clientv3.WithLimit(scanChunk), clientv3.WithRev(*revision))
		if isGone(err) {
			*revision = 0
			resp, err = client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(scanChunk))
		}
		if err != nil {
			return err
		}
		if *revision == 0 {
			*revision = resp.Header.Revision
		}
		kvs, *more = resp.Kvs, resp.More
		return nil
	})
	return kvs, err
}

// isGone reports whether a revision cannot be read any more: it is compacted, or of the time before etcd was restored.
func isGone(err error) bool {
	return errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev)
}
