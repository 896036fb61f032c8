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
		entry, err := c.get(ctx, client, c.keys.request(id))
		if err != nil || entry == nil || !snapshot.ValidName(string(entry.Value)) {
			return nil, err
		}
		kv, err := c.get(ctx, client, c.keys.record(string(entry.Value)))
		if err != nil || kv == nil {
			return nil, err
		}
		if err := c.ofRequest(kv, id); err != nil {
			c.warn(ctx, string(entry.Key), entry.ModRevision, "request leads to a record that is not its own", err)
			return nil, nil
		}
		return kv, nil
	}
	return c.read(ctx, "get by request", fmt.Sprintf("read the record of request %q", id), find)
}

// ofRequest returns why a record is not that of a save with this request id; nil when it is.
func (c *Catalog) ofRequest(kv *mvccpb.KeyValue, id string) error {
	m, err := c.parse(kv)
	if err == nil && m.GetRequestId() != id {
		err = fmt.Errorf("it is of the request %.100q", m.GetRequestId())
	}
	return err
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
// way, the rest is as of a newer one. On the way it adds what the index by time lacks.
func (c *Catalog) Scan(ctx context.Context) iter.Seq2[*snapshot.Record, error] {
	return func(yield func(*snapshot.Record, error) bool) {
		s := &scanning{Catalog: c, from: c.keys.records(), limit: scanChunk, more: true}
		for s.more {
			kvs, err := s.chunk(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			recs := make([]*snapshot.Record, len(kvs))
			errs := make([]error, len(kvs))
			for i, kv := range kvs {
				recs[i], errs[i] = s.record(kv)
			}
			c.addToIndex(ctx, recs, s.revision)
			for i, kv := range kvs {
				if errs[i] != nil {
					c.warn(ctx, string(kv.Key), kv.ModRevision, "record cannot be read", errs[i])
				}
				if !yield(recs[i], errs[i]) {
					return
				}
			}
		}
	}
}

// scanning is one Scan under way.
type scanning struct {
	*Catalog
	from     string // the first key that is still to be read
	revision int64  // 0 before the first chunk
	limit    int64  // of the next chunk
	more     bool   // there are records behind from
	huge     bool   // the chunk is one record that is too large for an answer, without its value
}

// record returns the record of a key of the chunk.
func (s *scanning) record(kv *mvccpb.KeyValue) (*snapshot.Record, error) {
	if s.huge {
		name, _ := s.keys.nameOfRecord(string(kv.Key))
		return nil, s.bad(name, string(kv.Key), errHuge)
	}
	return s.decode(kv)
}

// errHuge is why a record cannot be read that does not fit into an answer.
var errHuge = errors.New("it is larger than all records of a listing may be")

// chunk reads the next records. One that is too large for an answer is read without its value.
func (s *scanning) chunk(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	s.huge = false
	for {
		kvs, large, err := s.read(ctx)
		switch {
		case err != nil:
			return nil, err
		case !large:
			if len(kvs) > 0 {
				s.from = string(kvs[len(kvs)-1].Key) + "\x00"
			}
			s.limit = min(2*s.limit, scanChunk)
			return kvs, nil
		case s.limit > 1:
			s.limit /= 2
		default:
			s.huge = true
		}
	}
}

// read reads records from a key on; large says that they do not fit into an answer.
func (s *scanning) read(ctx context.Context) (kvs []*mvccpb.KeyValue, large bool, err error) {
	end := clientv3.GetPrefixRangeEnd(s.keys.records())
	opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(s.limit)}
	if s.huge {
		opts = append(opts, clientv3.WithKeysOnly())
	}
	err = s.do(ctx, "scan", "read the records", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		etcd := s.bounded(client)
		resp, err := etcd.Get(ctx, s.from, append(opts, clientv3.WithRev(s.revision))...)
		if isGone(err) {
			s.revision = 0
			resp, err = etcd.Get(ctx, s.from, opts...)
		}
		if large = tooLarge(err); large {
			return nil
		}
		if err != nil {
			return err
		}
		if s.revision == 0 {
			s.revision = resp.Header.Revision
		}
		kvs, s.more = resp.Kvs, resp.More
		return nil
	})
	return kvs, large, err
}

// isGone reports whether a revision cannot be read any more: it is compacted, or of the time before etcd was restored.
func isGone(err error) bool {
	return errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, rpctypes.ErrFutureRev)
}
