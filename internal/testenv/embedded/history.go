package embedded

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/mvcc"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
)

// History is an etcd whose keys and leases are changed at random: the oracle for its revisions that are restored
// elsewhere. The same seed makes the same changes.
type History struct {
	*Etcd

	TTLs map[int64]int64 // of all leases that were granted

	rnd    *rand.Rand
	leases []int64 // that were not revoked
}

// NewHistory starts an etcd that ends with the test.
func NewHistory(tb testing.TB, seed uint64, edit ...func(*member.Config)) *History {
	tb.Helper()
	return &History{Etcd: StartEtcd(tb, edit...), TTLs: map[int64]int64{}, rnd: rand.New(rand.NewPCG(seed, 1))}
}

// Server returns the member itself.
func (e *Etcd) Server() *etcdserver.EtcdServer { return e.server.Member() }

// Change makes n changes.
func (h *History) Change(tb testing.TB, n int) {
	tb.Helper()
	for range n {
		if err := h.change(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	}
}

func (h *History) change(ctx context.Context) (err error) {
	switch h.rnd.IntN(16) {
	case 0, 1:
		err = h.grant(ctx)
	case 2:
		err = h.revoke(ctx)
	case 3, 4:
		_, err = h.Server().DeleteRange(ctx, &pb.DeleteRangeRequest{Key: h.key()})
	case 5:
		tens := byte('0' + h.rnd.IntN(4))
		_, err = h.Server().DeleteRange(ctx, &pb.DeleteRangeRequest{
			Key: append([]byte("/registry/"), tens), RangeEnd: append([]byte("/registry/"), tens+1),
		})
	case 6, 7, 8:
		_, err = h.Server().Txn(ctx, h.transaction(0))
	default:
		_, err = h.Server().Put(ctx, h.put(h.key()))
	}
	return err
}

// oddKeys are keys that texts do not have.
var oddKeys = [][]byte{
	{0}, {0xff, 0xff}, []byte("a"), []byte("a\x00"), {0x80, 0xc3, 0xa9}, bytes.Repeat([]byte("k"), 3000),
}

func (h *History) key() []byte {
	if h.rnd.IntN(20) == 0 {
		return oddKeys[h.rnd.IntN(len(oddKeys))]
	}
	return fmt.Appendf(nil, "/registry/%02d", h.rnd.IntN(40))
}

// put returns a put of a value that is mostly short, at times empty or of many pages, and half of the time with a
// lease.
func (h *History) put(key []byte) *pb.PutRequest {
	p := &pb.PutRequest{Key: key, Value: make([]byte, h.rnd.IntN(60))}
	if h.rnd.IntN(50) == 0 {
		p.Value = make([]byte, h.rnd.IntN(60_000))
	}
	for i := range p.Value {
		p.Value[i] = byte(h.rnd.Uint32())
	}
	if len(h.leases) > 0 && h.rnd.IntN(2) == 0 {
		p.Lease = h.leases[h.rnd.IntN(len(h.leases))]
	}
	return p
}

// transaction changes several keys at one revision, also in transactions within.
func (h *History) transaction(depth int) *pb.TxnRequest {
	txn := &pb.TxnRequest{}
	taken := map[string]bool{}
	for range 1 + h.rnd.IntN(5) {
		key := h.key()
		if taken[string(key)] { // etcd refuses a key that is put twice
			continue
		}
		taken[string(key)] = true
		op := &pb.RequestOp{}
		switch n := h.rnd.IntN(8); {
		case n == 0 && depth == 0:
			nested := h.transaction(1)
			for _, o := range nested.Success {
				if p := o.GetRequestPut(); p != nil {
					p.Key = append([]byte("nested"), p.Key...)
				} else {
					o.GetRequestDeleteRange().Key = append([]byte("nested"), o.GetRequestDeleteRange().Key...)
				}
			}
			if taken["nested"] {
				continue
			}
			taken["nested"] = true
			op.Request = &pb.RequestOp_RequestTxn{RequestTxn: nested}
		case n < 3:
			op.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}
		default:
			op.Request = &pb.RequestOp_RequestPut{RequestPut: h.put(key)}
		}
		txn.Success = append(txn.Success, op)
	}
	return txn
}

func (h *History) grant(ctx context.Context) error {
	id, ttl := h.rnd.Int64()+1, 1000+h.rnd.Int64N(100_000)
	if h.rnd.IntN(4) == 0 {
		id = -id
	}
	if _, err := h.Server().LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
		return err
	}
	h.leases, h.TTLs[id] = append(h.leases, id), ttl
	return nil
}

func (h *History) revoke(ctx context.Context) error {
	if len(h.leases) == 0 {
		return nil
	}
	i := h.rnd.IntN(len(h.leases))
	id := h.leases[i]
	h.leases = slices.Delete(h.leases, i, i+1)
	_, err := h.Server().LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
	return err
}

// Revision returns the current one.
func (e *Etcd) Revision() int64 { return e.Server().KV().Rev() }

// Compact compacts up to a revision, and waits until it is done.
func (e *Etcd) Compact(tb testing.TB, revision int64) {
	tb.Helper()
	if _, err := e.Server().Compact(tb.Context(), &pb.CompactionRequest{Revision: revision, Physical: true}); err != nil {
		tb.Fatal(err)
	}
}

// Save writes the database to a file, without the checksum that etcd sends after it.
func (e *Etcd) Save(tb testing.TB, path string) {
	tb.Helper()
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	s := e.Server().Backend().Snapshot()
	_, err = s.WriteTo(f)
	for _, cerr := range []error{s.Close(), f.Close()} {
		err = cmp.Or(err, cerr)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Moment is an etcd at a revision.
type Moment struct {
	Hash   mvcc.KeyValueHash  // etcd's HashKV, with the compact revision that it holds for
	Keys   []*mvccpb.KeyValue // all that are live
	Leases map[int64][]string // the keys of each lease that live keys name
}

// At returns the etcd at a revision.
func (e *Etcd) At(tb testing.TB, revision int64) Moment {
	tb.Helper()
	hash, _, err := e.Server().KV().HashStorage().HashByRev(revision)
	if err != nil {
		tb.Fatal(err)
	}
	all, err := e.Server().KV().Range(tb.Context(), []byte{0}, []byte{}, mvcc.RangeOptions{Rev: revision})
	if err != nil {
		tb.Fatal(err)
	}
	m := Moment{Hash: hash, Keys: all.KVs, Leases: map[int64][]string{}}
	for _, kv := range all.KVs {
		if kv.Lease != 0 {
			m.Leases[kv.Lease] = append(m.Leases[kv.Lease], string(kv.Key))
		}
	}
	return m
}

// Leases returns the leases that the etcd has: their granted time to live, and their keys in order.
func (e *Etcd) Leases(tb testing.TB) (ttls map[int64]int64, keys map[int64][]string) {
	tb.Helper()
	ttls, keys = map[int64]int64{}, map[int64][]string{}
	all, err := e.Server().LeaseLeases(tb.Context(), &pb.LeaseLeasesRequest{})
	if err != nil {
		tb.Fatal(err)
	}
	for _, l := range all.Leases {
		one, err := e.Server().LeaseTimeToLive(tb.Context(), &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true})
		if errors.Is(err, lease.ErrLeaseNotFound) { // it has expired since
			continue
		}
		if err != nil {
			tb.Fatal(err)
		}
		ttls[l.ID] = one.GrantedTTL
		for _, k := range one.Keys {
			keys[l.ID] = append(keys[l.ID], string(k))
		}
		slices.Sort(keys[l.ID])
	}
	return ttls, keys
}
