package catalog

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/span"
)

// lease is a lease that is renewed until it is unlocked or lost. With a key on it, it is the domain's lock.
type lease struct {
	catalog *Catalog
	client  *clientv3.Client
	id      clientv3.LeaseID
	key     string // of the lock that is on it
	ttl     time.Duration
	expires time.Time // by our clock, never later than by etcd's; used by keep alone once that runs

	lost     chan struct{}
	losing   func() // called before lost is closed
	renewals sync.WaitGroup
	stop     context.CancelFunc
	once     sync.Once
}

// grant takes a lease. It is not renewed before keep.
func (c *Catalog) grant(ctx context.Context, client *clientv3.Client) (*lease, error) {
	sent := time.Now()
	resp, err := client.Grant(ctx, max(1, int64((c.cfg.LockTTL+time.Second-1)/time.Second)))
	if err != nil {
		return nil, err
	}
	ttl := time.Duration(resp.TTL) * time.Second
	return &lease{
		catalog: c, client: client, id: resp.ID, ttl: ttl, expires: sent.Add(ttl),
		lost: make(chan struct{}), stop: func() {},
	}, nil
}

// hold begins to renew the lease, and calls losing when it is lost. Unlock ends it.
func (l *lease) hold(ctx context.Context, losing func()) {
	l.losing = losing
	ctx, l.stop = context.WithCancel(span.Outside(context.WithoutCancel(ctx)))
	l.catalog.mu.Lock()
	l.catalog.leases[l] = struct{}{}
	l.catalog.mu.Unlock()
	backoff.Repeat(ctx, &l.renewals, l.ttl/3, l.keep)
}

// keep renews the lease and returns when to do so again: three times in its life, more often when that fails. It closes
// lost when the lease is lost. clientv3's KeepAlive counts the life from the arrival of the answer, and so may trust a
// lease that etcd has ended already.
func (l *lease) keep(ctx context.Context) (pause time.Duration) {
	sent := time.Now()
	ttl, err := l.renew(ctx)
	switch {
	case err == nil:
		l.expires, pause = sent.Add(ttl), l.ttl/3
	case ctx.Err() != nil:
		return backoff.Never
	case errors.Is(err, errTaken), errors.Is(err, rpctypes.ErrLeaseNotFound), !time.Now().Before(l.expires):
		if errors.Is(err, errTaken) {
			l.catalog.cfg.Logger.WarnContext(ctx, "lock is lost: something else has changed or removed its key", "key", l.key)
		}
		l.losing()
		close(l.lost)
		return backoff.Never
	default:
		pause = l.ttl / 15
	}
	return min(pause, time.Until(l.expires))
}

// errTaken says that the key of a lock is not on the lease of this replica any more. Only another client of etcd, such
// as etcdctl, can have done that. Another replica may have the lock now, so this one must not go on as if it had it.
var errTaken = errors.New("the lock was taken away")

// inPlace returns errTaken when the key of the lock is not the one that was put there. A read that fails proves
// nothing.
func (l *lease) inPlace(ctx context.Context) error {
	// The whole key is read: etcd 3.7 leaves the lease out of an answer without values.
	resp, err := l.client.Get(ctx, l.key)
	if err == nil && (len(resp.Kvs) == 0 || resp.Kvs[0].Lease != int64(l.id)) {
		return errTaken
	}
	return nil
}

// renew makes one attempt. clientv3's KeepAliveOnce would repeat it without a pause.
func (l *lease) renew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), min(l.ttl/4, time.Until(l.expires)))
	defer cancel()
	stream, err := etcdserverpb.NewLeaseClient(l.client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return 0, rpctypes.Error(err)
	}
	if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(l.id)}); err != nil {
		return 0, rpctypes.Error(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		return 0, rpctypes.Error(err)
	}
	if resp.GetTTL() <= 0 {
		return 0, rpctypes.ErrLeaseNotFound
	}
	return time.Duration(resp.GetTTL()) * time.Second, l.inPlace(ctx)
}

// Lost is closed when the lease has ended in etcd, or may have: it could not be renewed in time. It is also closed when
// the key of the lock was changed.
func (l *lease) Lost() <-chan struct{} { return l.lost }

// Unlock ends the lease and removes the keys on it, also when ctx is done, within the catalog's timeout. A lease that
// cannot be revoked expires.
func (l *lease) Unlock(ctx context.Context) {
	l.once.Do(func() {
		l.stop()
		l.renewals.Wait()
		l.catalog.mu.Lock()
		delete(l.catalog.leases, l)
		l.catalog.mu.Unlock()
		l.revoke(ctx)
	})
}

func (l *lease) revoke(ctx context.Context) {
	revoke := func(ctx context.Context, client *clientv3.Client, _ bool) error {
		_, err := client.Revoke(ctx, l.id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	}
	err := l.catalog.do(context.WithoutCancel(ctx), "unlock", "revoke a lease", revoke)
	if err != nil {
		l.catalog.cfg.Logger.WarnContext(ctx, "lease not given back; it expires", "ttl", l.ttl, "error", err)
	}
}
