//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

const (
	loadPace      = 40 * time.Millisecond
	samplePace    = 600 * time.Millisecond
	compactPace   = 6 * time.Second
	answerTimeout = 3 * time.Second
)

// load changes a cluster at random, over its client port alone, and notes the truth: the cluster's HashKV and keys at each
// revision, its leases and its compactions.
type load struct {
	client *clientv3.Client
	chance *rand.Rand
	turn   sync.Mutex         // held while it changes the cluster; a fault that needs a quiet cluster takes it
	alive  []clientv3.LeaseID // that were not revoked

	mu          sync.Mutex
	second      bool               // an earlier state was restored: from then on the cluster has another history
	back        int64              // the revision of that state; 0 when none was restored
	truths      map[int64][]*truth // one, or one of each history
	ops         []op
	leases      map[int64]*grant
	compactions []compaction
	compacted   int64     // it compacts above it alone
	owed        int64     // revisions from it on are to be looked at again, for the last compaction; 0 when none are
	keeps       time.Time // until then it does not compact
	sampled     int64     // all revisions up to it are known
	failed      int
}

// truth is the cluster at a revision.
type truth struct {
	second bool             // of the second history
	hashes map[int64]uint32 // HashKV by the compact revision for which it holds
	keys   [sha256.Size]byte
}

// op is a request that was answered.
type op struct {
	second      bool // of the second history
	sent, acked time.Time
	revision    int64 // of the store when it was answered
	changed     bool  // the revision is its own
}

type grant struct {
	ttl            int64
	granted, ended time.Time // ended is zero while nobody has revoked it
	short          bool      // it may expire
	unsure         bool      // it may be there or not: its end was not answered, or the state that was restored may not have it
}

type compaction struct {
	revision int64
	done     time.Time
}

func newLoad(client *clientv3.Client, seed uint64) *load {
	return &load{
		client: client, chance: rand.New(rand.NewPCG(seed, 6)), truths: map[int64][]*truth{}, leases: map[int64]*grant{},
	}
}

// run changes the cluster until enough is closed: a request that is under way then is finished, so that all that the cluster
// was told to do is known. What fails, as a member may be away, is not tried again.
func (l *load) run(ctx context.Context, enough <-chan struct{}) {
	pace := time.NewTicker(loadPace)
	defer pace.Stop()
	var sampled, compacted time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-enough:
			return
		case <-pace.C:
		}
		l.turn.Lock()
		l.note(l.change(ctx))
		if time.Since(sampled) > samplePace {
			sampled = time.Now()
			l.note(l.sample(ctx))
		}
		if time.Now().After(l.keeps) && time.Since(compacted) > compactPace {
			compacted = time.Now()
			l.note(l.compact(ctx))
		}
		l.turn.Unlock()
	}
}

// goesBack notes that the cluster is at an earlier revision again, as it was when a snapshot of it was taken.
func (l *load) goesBack(revision int64, taken time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.second, l.back, l.sampled, l.compacted, l.owed = true, revision, revision, revision, 0
	for _, g := range l.leases {
		g.unsure = g.unsure || g.granted.After(taken.Add(-settles)) || !g.ended.IsZero() && g.ended.After(taken.Add(-settles))
		if g.unsure && g.ended.IsZero() {
			g.ended = time.Now() // of the first history, whether anybody has asked for it or not
		}
	}
	l.alive = slices.DeleteFunc(l.alive, func(id clientv3.LeaseID) bool { return l.leases[int64(id)].unsure })
}

func (l *load) note(err error) {
	if err != nil {
		l.mu.Lock()
		l.failed++
		l.mu.Unlock()
	}
}

func (l *load) change(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	switch n := l.chance.IntN(200); {
	case n < 16:
		return l.grant(ctx)
	case n < 22:
		return l.revoke(ctx)
	case n < 28:
		if len(l.alive) > 0 {
			_, err := l.client.KeepAliveOnce(ctx, l.alive[l.chance.IntN(len(l.alive))])
			return err
		}
		return nil
	case n < 46:
		return l.do(ctx, false, clientv3.OpDelete(l.key()))
	case n < 52:
		tens := fmt.Sprintf("/registry/%d", l.chance.IntN(6))
		return l.do(ctx, false, clientv3.OpDelete(tens, clientv3.WithPrefix()))
	case n < 90:
		return l.do(ctx, true, l.transaction(0))
	case n == 90:
		return l.wide(ctx, 10, 100)
	case n == 92:
		return l.wide(ctx, 1, widestTransaction)
	case n == 91:
		if err := l.do(ctx, true, clientv3.OpPut("/big", string(make([]byte, 1_400_000)))); err != nil {
			return err
		}
		return l.do(ctx, false, clientv3.OpDelete("/big"))
	}
	return l.do(ctx, true, l.put(l.key()))
}

// do makes a request and notes when it was answered.
func (l *load) do(ctx context.Context, changes bool, what clientv3.Op) error {
	o := op{sent: time.Now(), changed: changes}
	resp, err := l.client.Do(ctx, what)
	if err != nil {
		return err
	}
	o.acked = time.Now()
	switch {
	case resp.Put() != nil:
		o.revision = resp.Put().Header.Revision
	case resp.Del() != nil:
		o.revision = resp.Del().Header.Revision
	case resp.Txn() != nil:
		o.revision = resp.Txn().Header.Revision
	}
	l.mu.Lock()
	o.second = l.second
	l.ops = append(l.ops, o)
	l.mu.Unlock()
	return nil
}

// strangeKeys are keys that texts do not have.
var strangeKeys = []string{"\x00", "\xff\xff", "a", "a\x00", "\x80\xc3\xa9", strings.Repeat("k", 3000)}

func (l *load) key() string {
	if l.chance.IntN(20) == 0 {
		return strangeKeys[l.chance.IntN(len(strangeKeys))]
	}
	return fmt.Sprintf("/registry/%02d", l.chance.IntN(60))
}

// put returns a put of a value that is mostly short, at times empty or of many pages, and half of the time with a lease.
func (l *load) put(key string) clientv3.Op {
	value := make([]byte, l.chance.IntN(200))
	if l.chance.IntN(50) == 0 {
		value = make([]byte, l.chance.IntN(60_000))
	}
	for i := range value {
		value[i] = byte(l.chance.Uint32())
	}
	if len(l.alive) > 0 && l.chance.IntN(2) == 0 {
		return clientv3.OpPut(key, string(value), clientv3.WithLease(l.alive[l.chance.IntN(len(l.alive))]))
	}
	return clientv3.OpPut(key, string(value))
}

// transaction changes several keys at one revision, also in a transaction within. Its first operation is a put.
func (l *load) transaction(depth int) clientv3.Op {
	prefix := strings.Repeat("/nested", depth)
	first := prefix + "/registry/first"
	ops, taken := []clientv3.Op{l.put(first)}, map[string]bool{first: true}
	for range l.chance.IntN(5) {
		key := prefix + l.key()
		if taken[key] { // etcd refuses a key that is put twice
			continue
		}
		taken[key] = true
		if l.chance.IntN(3) == 0 {
			ops = append(ops, clientv3.OpDelete(key))
		} else {
			ops = append(ops, l.put(key))
		}
	}
	if depth == 0 && l.chance.IntN(4) == 0 {
		ops = append(ops, l.transaction(1))
	}
	return clientv3.OpTxn(nil, ops, nil)
}

// widestTransaction is how many keys one revision makes or deletes at most.
const widestTransaction = 20_000

// wide makes many keys at a few revisions, and deletes all of them at one.
func (l *load) wide(ctx context.Context, revisions, keys int) error {
	for batch := range revisions {
		var ops []clientv3.Op
		for i := range keys {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/wide/%d/%d", batch, i), "x"))
		}
		if err := l.do(ctx, true, clientv3.OpTxn(nil, ops, nil)); err != nil {
			return err
		}
	}
	return l.do(ctx, true, clientv3.OpDelete("/wide/", clientv3.WithPrefix()))
}

func (l *load) grant(ctx context.Context) error {
	g := &grant{ttl: 1000 + l.chance.Int64N(100_000)}
	if l.chance.IntN(4) == 0 {
		g.ttl, g.short = 2+l.chance.Int64N(6), true
	}
	resp, err := l.client.Grant(ctx, g.ttl)
	if err != nil {
		return err
	}
	g.granted = time.Now()
	l.mu.Lock()
	l.leases[int64(resp.ID)] = g
	l.mu.Unlock()
	if l.alive = append(l.alive, resp.ID); len(l.alive) > 25 {
		l.alive = l.alive[1:] // it goes on without being used again
	}
	return nil
}

func (l *load) revoke(ctx context.Context) error {
	if len(l.alive) == 0 {
		return nil
	}
	i := l.chance.IntN(len(l.alive))
	id := l.alive[i]
	l.alive = append(l.alive[:i], l.alive[i+1:]...)
	l.mu.Lock()
	l.leases[int64(id)].ended = time.Now() // also when there is no answer
	l.mu.Unlock()
	_, err := l.client.Revoke(ctx, id)
	if err != nil {
		l.mu.Lock()
		l.leases[int64(id)].unsure = true // it may be there all the same
		l.mu.Unlock()
	}
	return err
}

func (l *load) current(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	resp, err := l.client.Get(ctx, "x")
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// sample notes the truth of all revisions since the last time.
func (l *load) sample(ctx context.Context) error {
	for ; l.owed > 0; l.owed++ {
		if l.owed > l.sampled {
			l.owed = 0
			break
		}
		if err := l.look(ctx, l.owed); err != nil {
			return err
		}
	}
	current, err := l.current(ctx)
	for r := max(l.sampled+1, 2); err == nil && r <= current; r++ {
		if err = l.look(ctx, r); err == nil {
			l.mu.Lock()
			l.sampled = r
			l.mu.Unlock()
		}
	}
	return err
}

// look notes the truth of a revision, for the last compaction.
func (l *load) look(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	all, err := l.client.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(revision))
	if err != nil {
		return err
	}
	var errs []error
	endpoints := l.client.Endpoints()
	for i := range endpoints {
		e := endpoints[(int(revision)+i)%len(endpoints)]
		resp, err := l.client.HashKV(ctx, e, revision)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.IndexFunc(l.truths[revision], func(t *truth) bool { return t.second == l.second || revision <= l.back })
		if i < 0 {
			i = len(l.truths[revision])
			l.truths[revision] = append(l.truths[revision], &truth{second: l.second, hashes: map[int64]uint32{}})
		}
		l.truths[revision][i].keys = sumKeys(all.Kvs)
		l.truths[revision][i].hashes[resp.CompactRevision] = resp.Hash
		return nil
	}
	return errors.Join(errs...)
}

// sumKeys is a checksum of keys with all that etcd has of them.
func sumKeys(all []*mvccpb.KeyValue) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, kv := range all {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(kv)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(h, "%d ", len(b))
		h.Write(b)
	}
	h.Sum(sum[:0])
	return sum
}

// compact compacts up to a random revision, most of the time not up to the newest ones. Each revision is known before,
// and those that stay have another hash after it.
func (l *load) compact(ctx context.Context) error {
	if err := l.sample(ctx); err != nil {
		return err
	}
	revision := l.sampled - l.chance.Int64N(400)
	if revision < 2 || revision <= l.compacted {
		return nil
	}
	return l.compactTo(ctx, revision)
}

// compactTo compacts up to a revision.
func (l *load) compactTo(ctx context.Context, revision int64) error {
	for {
		answered, cancel := context.WithTimeout(ctx, answerTimeout)
		_, err := l.client.Compact(answered, revision, clientv3.WithCompactPhysical())
		cancel()
		if err == nil || errors.Is(err, rpctypes.ErrCompacted) {
			break
		}
		if ctx.Err() != nil {
			return err
		}
	}
	l.mu.Lock()
	l.compactions = append(l.compactions, compaction{revision: revision, done: time.Now()})
	l.compacted, l.owed = revision, revision
	l.mu.Unlock()
	return l.sample(ctx)
}

// endShort revokes the leases that may expire at any moment.
func (l *load) endShort(ctx context.Context) error {
	for id, g := range l.leases {
		if !g.short || !g.ended.IsZero() {
			continue
		}
		if _, err := l.client.Revoke(ctx, clientv3.LeaseID(id)); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
		l.mu.Lock()
		g.ended = time.Now()
		l.mu.Unlock()
	}
	return nil
}

// bounds returns between which revisions the cluster was at a time of one of its histories: all that was answered before,
// and nothing that was asked for after.
func (l *load) bounds(at time.Time, second bool) (lower, upper int64) {
	upper = 1 << 62
	for _, o := range l.ops {
		if o.second != second {
			continue
		}
		if o.acked.Before(at) {
			lower = max(lower, o.revision)
		}
		if o.sent.After(at) && o.changed {
			upper = min(upper, o.revision-1)
		}
	}
	return lower, upper
}
