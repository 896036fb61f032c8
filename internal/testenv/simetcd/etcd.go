// Package simetcd has etcds for tests of thousands of clusters, which one machine could not run. One process serves
// many of them, each under an address of its own below 127.0.0.0/8, and keeps them in memory. They answer as much of
// etcd's API as a catalog, an election and a save ask for, as etcd does: the catalog's conformance suite passes on one.
package simetcd

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// etcd is one of them: a member that is its cluster.
type etcd struct {
	id  uint64
	url string

	mu        sync.Mutex
	revision  int64
	compacted int64
	keys      []string                      // that were ever put, in ascending order
	versions  map[string][]*mvccpb.KeyValue // by key, in ascending order; a deletion has the version 0
	history   []*mvccpb.Event               // that were not compacted
	leases    map[int64]*lease
	granted   int64
	watches   map[*watch]bool
	watched   int64 // watches that there were
}

type lease struct {
	ttl time.Duration
	end time.Time
}

func newEtcd(id uint64, url string) *etcd {
	return &etcd{
		id: id, url: url, revision: 1,
		versions: map[string][]*mvccpb.KeyValue{}, leases: map[int64]*lease{}, watches: map[*watch]bool{},
	}
}

func (e *etcd) header() *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{ClusterId: e.id, MemberId: e.id, RaftTerm: 2, Revision: e.revision}
}

// at returns a key as it was at a revision; nil when it was not there.
func (e *etcd) at(key string, revision int64) *mvccpb.KeyValue {
	for _, kv := range slices.Backward(e.versions[key]) {
		if kv.ModRevision <= revision {
			if kv.Version == 0 {
				return nil
			}
			return kv
		}
	}
	return nil
}

// in reports whether a key is in a range of etcd's.
func in(key string, from, end []byte) bool {
	switch {
	case len(end) == 0:
		return key == string(from)
	case len(end) == 1 && end[0] == 0:
		return key >= string(from)
	}
	return key >= string(from) && key < string(end)
}

// within returns the keys that are in a range at a revision, in ascending order.
func (e *etcd) within(from, end []byte, revision int64) (all []*mvccpb.KeyValue) {
	first, _ := slices.BinarySearch(e.keys, string(from))
	for _, key := range e.keys[first:] {
		if !in(key, from, end) {
			break
		}
		if kv := e.at(key, revision); kv != nil {
			all = append(all, kv)
		}
	}
	return all
}

// read reads a range. current is the revision at which a request without one is answered.
func (e *etcd) read(r *etcdserverpb.RangeRequest, current int64) (*etcdserverpb.RangeResponse, error) {
	if r.SortTarget != etcdserverpb.RangeRequest_KEY || r.SortOrder == etcdserverpb.RangeRequest_DESCEND ||
		r.MinModRevision > 0 || r.MaxModRevision > 0 || r.MinCreateRevision > 0 || r.MaxCreateRevision > 0 {
		return nil, status.Error(codes.Unimplemented, "a simulated etcd has no such range")
	}
	revision := cmp.Or(max(0, r.Revision), current)
	switch {
	case revision > current:
		return nil, rpctypes.ErrGRPCFutureRev
	case revision < e.compacted:
		return nil, rpctypes.ErrGRPCCompacted
	}
	all := e.within(r.Key, r.RangeEnd, revision)
	resp := &etcdserverpb.RangeResponse{Header: e.header(), Count: int64(len(all))}
	if r.Limit > 0 && int64(len(all)) > r.Limit {
		all, resp.More = all[:r.Limit], true
	}
	if r.CountOnly {
		return resp, nil
	}
	for _, kv := range all {
		if r.KeysOnly {
			kv = &mvccpb.KeyValue{
				Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version,
			}
		}
		resp.Kvs = append(resp.Kvs, kv)
	}
	return resp, nil
}

// change is a transaction under way.
type change struct {
	*etcd
	main   int64
	events []*mvccpb.Event
}

func (c *change) write(kv, was *mvccpb.KeyValue, kind mvccpb.Event_EventType) {
	key := string(kv.Key)
	if i, known := slices.BinarySearch(c.keys, key); !known {
		c.keys = slices.Insert(c.keys, i, key)
	}
	c.versions[key] = append(c.versions[key], kv)
	c.events = append(c.events, &mvccpb.Event{Type: kind, Kv: kv, PrevKv: was})
}

func (c *change) put(r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	if r.IgnoreLease || r.IgnoreValue {
		return nil, status.Error(codes.Unimplemented, "a simulated etcd has no such put")
	}
	if len(r.Key) == 0 {
		return nil, rpctypes.ErrGRPCEmptyKey
	}
	if r.Lease != 0 && c.leases[r.Lease] == nil {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	was := c.at(string(r.Key), c.main)
	kv := &mvccpb.KeyValue{
		Key: r.Key, Value: r.Value, Lease: r.Lease,
		CreateRevision: cmp.Or(was.GetCreateRevision(), c.main), ModRevision: c.main, Version: was.GetVersion() + 1,
	}
	c.write(kv, was, mvccpb.Event_PUT)
	resp := &etcdserverpb.PutResponse{}
	if r.PrevKv {
		resp.PrevKv = was
	}
	return resp, nil
}

func (c *change) remove(r *etcdserverpb.DeleteRangeRequest) *etcdserverpb.DeleteRangeResponse {
	resp := &etcdserverpb.DeleteRangeResponse{}
	for _, was := range c.within(r.Key, r.RangeEnd, c.main) {
		c.write(&mvccpb.KeyValue{Key: was.Key, ModRevision: c.main}, was, mvccpb.Event_DELETE)
		if resp.Deleted++; r.PrevKv {
			resp.PrevKvs = append(resp.PrevKvs, was)
		}
	}
	return resp
}

func (c *change) txn(r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	resp := &etcdserverpb.TxnResponse{Succeeded: true}
	for _, cond := range r.Compare {
		if len(cond.RangeEnd) > 0 {
			return nil, status.Error(codes.Unimplemented, "a simulated etcd compares no ranges")
		}
		resp.Succeeded = resp.Succeeded && holds(cond, c.at(string(cond.Key), c.main))
	}
	ops := r.Success
	if !resp.Succeeded {
		ops = r.Failure
	}
	for _, op := range ops {
		done, err := c.do(op)
		if err != nil {
			return nil, err
		}
		resp.Responses = append(resp.Responses, done)
	}
	return resp, nil
}

func (c *change) do(op *etcdserverpb.RequestOp) (*etcdserverpb.ResponseOp, error) {
	switch op := op.Request.(type) {
	case *etcdserverpb.RequestOp_RequestRange:
		resp, err := c.read(op.RequestRange, c.main)
		return &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponseRange{ResponseRange: resp}}, err
	case *etcdserverpb.RequestOp_RequestPut:
		resp, err := c.put(op.RequestPut)
		return &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponsePut{ResponsePut: resp}}, err
	case *etcdserverpb.RequestOp_RequestDeleteRange:
		return &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponseDeleteRange{
			ResponseDeleteRange: c.remove(op.RequestDeleteRange),
		}}, nil
	case *etcdserverpb.RequestOp_RequestTxn:
		resp, err := c.txn(op.RequestTxn)
		return &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponseTxn{ResponseTxn: resp}}, err
	}
	return nil, status.Error(codes.Unimplemented, "a simulated etcd has no such operation")
}

// holds reports whether a comparison is true of a key, which may be nil.
func holds(c *etcdserverpb.Compare, kv *mvccpb.KeyValue) bool {
	var order int
	switch c.Target {
	case etcdserverpb.Compare_VERSION:
		order = cmp.Compare(kv.GetVersion(), c.GetVersion())
	case etcdserverpb.Compare_CREATE:
		order = cmp.Compare(kv.GetCreateRevision(), c.GetCreateRevision())
	case etcdserverpb.Compare_MOD:
		order = cmp.Compare(kv.GetModRevision(), c.GetModRevision())
	case etcdserverpb.Compare_LEASE:
		order = cmp.Compare(kv.GetLease(), c.GetLease())
	case etcdserverpb.Compare_VALUE:
		if kv == nil {
			return false
		}
		order = bytes.Compare(kv.Value, c.GetValue())
	}
	switch c.Result {
	case etcdserverpb.Compare_EQUAL:
		return order == 0
	case etcdserverpb.Compare_NOT_EQUAL:
		return order != 0
	case etcdserverpb.Compare_GREATER:
		return order > 0
	}
	return order < 0
}

// apply does a transaction. One that fails on the way leaves nothing.
func (e *etcd) apply(do func(*change) error) error {
	c := &change{etcd: e, main: e.revision + 1}
	if err := do(c); err != nil {
		for _, ev := range c.events {
			key := string(ev.Kv.Key)
			e.versions[key] = slices.DeleteFunc(e.versions[key],
				func(kv *mvccpb.KeyValue) bool { return kv.ModRevision == c.main })
		}
		return err
	}
	if len(c.events) == 0 {
		return nil
	}
	e.revision = c.main
	e.history = append(e.history, c.events...)
	for w := range e.watches {
		w.tell(e.header(), c.events)
	}
	return nil
}

// grant grants a lease; its id is chosen when it is 0.
func (e *etcd) grant(id int64, ttl time.Duration, now time.Time) int64 {
	if id == 0 {
		e.granted++
		id = int64(e.id&0x7fffffff)<<31 | e.granted
	}
	e.leases[id] = &lease{ttl: ttl, end: now.Add(ttl)}
	return id
}

// on returns the keys on a lease.
func (e *etcd) on(id int64) (keys [][]byte) {
	for _, key := range e.keys {
		if kv := e.at(key, e.revision); kv.GetLease() == id {
			keys = append(keys, kv.Key)
		}
	}
	return keys
}

// end ends a lease, with the keys on it.
func (e *etcd) end(id int64) {
	keys := e.on(id)
	delete(e.leases, id)
	_ = e.apply(func(c *change) error {
		for _, key := range keys {
			c.remove(&etcdserverpb.DeleteRangeRequest{Key: key})
		}
		return nil
	})
}

// expire ends the leases whose time has come.
func (e *etcd) expire(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, l := range maps.Clone(e.leases) {
		if now.After(l.end) {
			e.end(id)
		}
	}
}

// compact forgets what was before a revision.
func (e *etcd) compact(revision int64) error {
	switch {
	case revision > e.revision:
		return rpctypes.ErrGRPCFutureRev
	case revision <= e.compacted:
		return rpctypes.ErrGRPCCompacted
	}
	e.compacted = revision
	for key, all := range e.versions {
		last := 0
		for i, kv := range all {
			if kv.ModRevision <= revision {
				last = i
			}
		}
		e.versions[key] = all[last:]
	}
	e.history = slices.DeleteFunc(e.history, func(ev *mvccpb.Event) bool { return ev.Kv.ModRevision < revision })
	return nil
}
