package simetcd

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// version is the version of etcd that they say they have.
const version = "3.7.3"

// etcds are all etcds of a process, by the address that a connection was made to.
type etcds struct {
	snapshot []byte // that each of them gives, with its checksum at the end

	mu sync.Mutex
	of map[string]*etcd
}

// at returns the etcd that a call was sent to.
func (s *etcds) at(ctx context.Context) *etcd {
	p, _ := peer.FromContext(ctx)
	address := p.LocalAddr.String()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.of[address]
	if e == nil {
		e = newEtcd(uint64(len(s.of)+1)<<32|0x5eed, "http://"+address)
		s.of[address] = e
	}
	return e
}

// lock returns the etcd that a call was sent to, locked.
func (s *etcds) lock(ctx context.Context) *etcd {
	e := s.at(ctx)
	e.mu.Lock()
	return e
}

// all returns those that were asked for something.
func (s *etcds) all() (all []*etcd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.of {
		all = append(all, e)
	}
	return all
}

// serve serves until the listener is closed.
func (s *etcds) serve(l net.Listener) error {
	server := grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(4<<10), grpc.ConnectionTimeout(time.Minute),
	)
	etcdserverpb.RegisterKVServer(server, kv{etcds: s})
	etcdserverpb.RegisterLeaseServer(server, leases{etcds: s})
	etcdserverpb.RegisterWatchServer(server, watches{etcds: s})
	etcdserverpb.RegisterClusterServer(server, members{etcds: s})
	etcdserverpb.RegisterMaintenanceServer(server, maintenance{etcds: s})
	etcdserverpb.RegisterAuthServer(server, auth{etcds: s})
	return server.Serve(l)
}

type kv struct {
	etcdserverpb.UnimplementedKVServer
	*etcds
}

func (s kv) Range(ctx context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	return e.read(r, e.revision)
}

func (s kv) Put(ctx context.Context, r *etcdserverpb.PutRequest) (resp *etcdserverpb.PutResponse, err error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	if err = e.apply(func(c *change) (err error) { resp, err = c.put(r); return err }); err != nil {
		return nil, err
	}
	resp.Header = e.header()
	return resp, nil
}

func (s kv) DeleteRange(
	ctx context.Context, r *etcdserverpb.DeleteRangeRequest,
) (resp *etcdserverpb.DeleteRangeResponse, err error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	_ = e.apply(func(c *change) error { resp = c.remove(r); return nil })
	resp.Header = e.header()
	return resp, nil
}

func (s kv) Txn(ctx context.Context, r *etcdserverpb.TxnRequest) (resp *etcdserverpb.TxnResponse, err error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	if err = e.apply(func(c *change) (err error) { resp, err = c.txn(r); return err }); err != nil {
		return nil, err
	}
	resp.Header = e.header()
	return resp, nil
}

func (s kv) Compact(ctx context.Context, r *etcdserverpb.CompactionRequest) (*etcdserverpb.CompactionResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	if err := e.compact(r.Revision); err != nil {
		return nil, err
	}
	return &etcdserverpb.CompactionResponse{Header: e.header()}, nil
}

type leases struct {
	etcdserverpb.UnimplementedLeaseServer
	*etcds
}

func (s leases) LeaseGrant(
	ctx context.Context, r *etcdserverpb.LeaseGrantRequest,
) (*etcdserverpb.LeaseGrantResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	id := e.grant(r.ID, time.Duration(r.TTL)*time.Second, time.Now())
	return &etcdserverpb.LeaseGrantResponse{Header: e.header(), ID: id, TTL: r.TTL}, nil
}

func (s leases) LeaseRevoke(
	ctx context.Context, r *etcdserverpb.LeaseRevokeRequest,
) (*etcdserverpb.LeaseRevokeResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	if e.leases[r.ID] == nil {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	e.end(r.ID)
	return &etcdserverpb.LeaseRevokeResponse{Header: e.header()}, nil
}

func (s leases) LeaseKeepAlive(stream etcdserverpb.Lease_LeaseKeepAliveServer) error {
	e := s.at(stream.Context())
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the client has ended it
		}
		if err := stream.Send(e.renew(r.ID)); err != nil {
			return err
		}
	}
}

// renew renews a lease. The time to live is 0 when it has ended.
func (e *etcd) renew(id int64) *etcdserverpb.LeaseKeepAliveResponse {
	e.mu.Lock()
	defer e.mu.Unlock()
	resp := &etcdserverpb.LeaseKeepAliveResponse{Header: e.header(), ID: id}
	if l := e.leases[id]; l != nil {
		l.end = time.Now().Add(l.ttl)
		resp.TTL = int64(l.ttl / time.Second)
	}
	return resp
}

func (s leases) LeaseTimeToLive(
	ctx context.Context, r *etcdserverpb.LeaseTimeToLiveRequest,
) (*etcdserverpb.LeaseTimeToLiveResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	resp := &etcdserverpb.LeaseTimeToLiveResponse{Header: e.header(), ID: r.ID, TTL: -1}
	if l := e.leases[r.ID]; l != nil {
		resp.TTL, resp.GrantedTTL = max(0, int64(time.Until(l.end)/time.Second)), int64(l.ttl/time.Second)
		if r.Keys {
			resp.Keys = e.on(r.ID)
		}
	}
	return resp, nil
}

func (s leases) LeaseLeases(
	ctx context.Context, _ *etcdserverpb.LeaseLeasesRequest,
) (*etcdserverpb.LeaseLeasesResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	resp := &etcdserverpb.LeaseLeasesResponse{Header: e.header()}
	for id := range e.leases {
		resp.Leases = append(resp.Leases, &etcdserverpb.LeaseStatus{ID: id})
	}
	return resp, nil
}

type watches struct {
	etcdserverpb.UnimplementedWatchServer
	*etcds
}

// watch is one range that a client watches.
type watch struct {
	id        int64
	from, end []byte
	previous  bool // the values before are wanted
	out       *queue
}

// tell sends the events that are of the range.
func (w *watch) tell(header *etcdserverpb.ResponseHeader, events []*mvccpb.Event) {
	resp := &etcdserverpb.WatchResponse{Header: header, WatchId: w.id}
	for _, ev := range events {
		if !in(string(ev.Kv.Key), w.from, w.end) {
			continue
		}
		if !w.previous {
			ev = &mvccpb.Event{Type: ev.Type, Kv: ev.Kv}
		}
		resp.Events = append(resp.Events, ev)
	}
	if len(resp.Events) > 0 {
		w.out.put(resp)
	}
}

// queue is what waits for a client, however slow that is.
type queue struct {
	mu    sync.Mutex
	all   []*etcdserverpb.WatchResponse
	ready chan struct{} // holds one when there is something
}

func (q *queue) put(resp *etcdserverpb.WatchResponse) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, resp)
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) take() (all []*etcdserverpb.WatchResponse) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all, q.all = q.all, nil
	return all
}

func (s watches) Watch(stream etcdserverpb.Watch_WatchServer) error {
	e := s.at(stream.Context())
	ctx, cancel := context.WithCancel(stream.Context())
	out := &queue{ready: make(chan struct{}, 1)}
	mine := map[int64]*watch{}
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, w := range mine {
			delete(e.watches, w)
		}
	}()
	var receiving sync.WaitGroup
	defer receiving.Wait()
	defer cancel()
	receiving.Go(func() {
		defer cancel()
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			e.watch(r, mine, out)
		}
	})
	for {
		select {
		case <-out.ready:
			for _, resp := range out.take() {
				if err := stream.Send(resp); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// watch answers a request of a watch's stream. mine are the watches of the stream.
func (e *etcd) watch(r *etcdserverpb.WatchRequest, mine map[int64]*watch, out *queue) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r, ok := r.RequestUnion.(*etcdserverpb.WatchRequest_CancelRequest); ok {
		id := r.CancelRequest.WatchId
		if w := mine[id]; w != nil {
			delete(e.watches, w)
			delete(mine, id)
			out.put(&etcdserverpb.WatchResponse{Header: e.header(), WatchId: id, Canceled: true})
		}
		return
	}
	create, ok := r.RequestUnion.(*etcdserverpb.WatchRequest_CreateRequest)
	if !ok {
		return // a client asks for progress
	}
	c := create.CreateRequest
	w := &watch{id: e.watched, from: c.Key, end: c.RangeEnd, previous: c.PrevKv, out: out}
	e.watched++
	out.put(&etcdserverpb.WatchResponse{Header: e.header(), WatchId: w.id, Created: true})
	if c.StartRevision > 0 && c.StartRevision <= e.compacted {
		out.put(&etcdserverpb.WatchResponse{
			Header: e.header(), WatchId: w.id, Canceled: true, CompactRevision: e.compacted,
			CancelReason: rpctypes.ErrCompacted.Error(),
		})
		return
	}
	for _, ev := range e.history {
		if c.StartRevision > 0 && ev.Kv.ModRevision >= c.StartRevision {
			w.tell(e.header(), []*mvccpb.Event{ev})
		}
	}
	mine[w.id], e.watches[w] = w, true
}

type members struct {
	etcdserverpb.UnimplementedClusterServer
	*etcds
}

func (s members) MemberList(
	ctx context.Context, _ *etcdserverpb.MemberListRequest,
) (*etcdserverpb.MemberListResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	return &etcdserverpb.MemberListResponse{Header: e.header(), Members: []*etcdserverpb.Member{
		{ID: e.id, Name: fmt.Sprintf("simulated-%x", e.id), ClientURLs: []string{e.url}},
	}}, nil
}

type maintenance struct {
	etcdserverpb.UnimplementedMaintenanceServer
	*etcds
}

func (s maintenance) Status(ctx context.Context, _ *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	size := int64(len(s.snapshot))
	return &etcdserverpb.StatusResponse{
		Header: e.header(), Version: version, StorageVersion: "3.7.0", Leader: e.id, DbSize: size, DbSizeInUse: size,
		RaftTerm: 2, RaftIndex: uint64(e.revision), RaftAppliedIndex: uint64(e.revision),
	}, nil
}

func (s maintenance) Alarm(ctx context.Context, _ *etcdserverpb.AlarmRequest) (*etcdserverpb.AlarmResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	return &etcdserverpb.AlarmResponse{Header: e.header()}, nil
}

// blob is how much of a snapshot is in one message.
const blob = 32 << 10

func (s maintenance) Snapshot(_ *etcdserverpb.SnapshotRequest, stream etcdserverpb.Maintenance_SnapshotServer) error {
	if len(s.snapshot) == 0 {
		return status.Error(codes.Unimplemented, "these etcds have no snapshot")
	}
	for left := s.snapshot; len(left) > 0; {
		n := min(blob, len(left))
		resp := &etcdserverpb.SnapshotResponse{RemainingBytes: uint64(len(left) - n), Blob: left[:n], Version: version}
		if err := stream.Send(resp); err != nil {
			return err
		}
		left = left[n:]
	}
	return nil
}

type auth struct {
	etcdserverpb.UnimplementedAuthServer
	*etcds
}

func (s auth) AuthStatus(
	ctx context.Context, _ *etcdserverpb.AuthStatusRequest,
) (*etcdserverpb.AuthStatusResponse, error) {
	e := s.lock(ctx)
	defer e.mu.Unlock()
	return &etcdserverpb.AuthStatusResponse{Header: e.header()}, nil
}
