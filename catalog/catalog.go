package catalog

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Defaults of a [Config].
const (
	// DefaultPrefix begins all keys.
	DefaultPrefix = "/snapshotd/v1/"
	// DefaultTimeout is how long one request may take, its repetitions included.
	DefaultTimeout = 5 * time.Second
	// DefaultLockTTL is how long the lock and the leadership of a dead replica last.
	DefaultLockTTL = 15 * time.Second
	// DefaultAskAfter is how long a replica waits before it asks for a leadership: one that ends again and again asks for
	// none.
	DefaultAskAfter = time.Minute
)

// Config of a [Catalog]. Connect and Cluster are needed.
type Config struct {
	Connect func(context.Context) (*clientv3.Client, error) // returns the client, which stays the caller's
	Cluster string                                          // whose records these are

	Prefix   string        // of all keys; DefaultPrefix
	Timeout  time.Duration // DefaultTimeout; another one is for tests
	LockTTL  time.Duration // DefaultLockTTL; at most MaxLockTTL; etcd knows whole seconds
	AskAfter time.Duration // DefaultAskAfter; another one is for tests
	Logger   *slog.Logger
}

// Catalog is the domain's catalog in etcd.
type Catalog struct {
	cfg       Config
	keys      keys
	maxAnswer int         // bytes
	long      atomic.Bool // the index by time had many keys when it was last read

	mu     sync.Mutex
	leases map[*lease]struct{} // held, to be given back by Close
	told   map[string]int64    // by key: the revision that the log was told of
}

var (
	_ cluster.Records   = (*Catalog)(nil)
	_ cluster.Saves     = (*Catalog)(nil)
	_ cluster.History   = (*Catalog)(nil)
	_ repository.Stores = (*Catalog)(nil)
)

// New returns a catalog. It does no I/O.
func New(cfg Config) *Catalog {
	cfg.Prefix = cmp.Or(cfg.Prefix, DefaultPrefix)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.LockTTL = min(cmp.Or(cfg.LockTTL, DefaultLockTTL), MaxLockTTL)
	cfg.AskAfter = cmp.Or(cfg.AskAfter, DefaultAskAfter)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Catalog{
		cfg: cfg, keys: keys(cfg.Prefix + cfg.Cluster + "/"), maxAnswer: maxAnswer,
		leases: map[*lease]struct{}{}, told: map[string]int64{},
	}
}

// maxTold bounds the memory of the keys that the log was told of.
const maxTold = 1000

// warn writes a line about a key, once for each of its revisions: what is wrong with it is met again and again.
func (c *Catalog) warn(ctx context.Context, key string, revision int64, msg string, err error) {
	c.mu.Lock()
	told := c.told[key] == revision
	if len(c.told) >= maxTold {
		clear(c.told)
	}
	c.told[key] = revision
	c.mu.Unlock()
	if !told {
		c.cfg.Logger.WarnContext(ctx, msg, "cluster", c.cfg.Cluster, "key", key, "error", err)
	}
}

// Close gives back the locks that are still held, and waits for their goroutines.
func (c *Catalog) Close(ctx context.Context) error {
	c.mu.Lock()
	var held []*lease
	for l := range c.leases {
		held = append(held, l)
	}
	c.mu.Unlock()
	for _, l := range held {
		l.Unlock(ctx)
	}
	return nil
}

// retryPause is the pause between two attempts of a request: a new leader is elected in a second or two.
const retryPause = 100 * time.Millisecond

// request is one request to etcd. again says that an earlier attempt may have done its work unseen.
type request func(ctx context.Context, client *clientv3.Client, again bool) error

// do makes a request within the timeout, and repeats it while etcd has no leader or the member that was asked does not
// answer. It ends with a sentinel of the domain, as the request wrapped it, or with a [snapshot.Error].
func (c *Catalog) do(ctx context.Context, op, what string, req request) (err error) {
	ctx, trace := span.Call(ctx, "catalog "+op, span.Cluster.String(c.cfg.Cluster),
		attribute.String("db.system.name", "etcd"), attribute.String("db.operation.name", op))
	defer func() {
		if isSentinel(err) { // an answer that the caller acts upon
			trace.End(nil)
			return
		}
		trace.End(err)
	}()
	bounded, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	client, err := c.cfg.Connect(bounded)
	for again := false; err == nil; again = true {
		var failed error
		if failed = c.attempt(bounded, client, again, req); failed == nil || isSentinel(failed) {
			return failed
		}
		if !mayRetry(failed) || backoff.Wait(bounded, retryPause) != nil {
			err = failed
		}
	}
	if ctx.Err() != nil {
		return snapshot.Cancelled(ctx, "%s in the catalog", what)
	}
	return c.unavailable(what, err)
}

// attempt leaves time for another one: the client takes its members in turn, and one of them may hang.
func (c *Catalog) attempt(ctx context.Context, client *clientv3.Client, again bool, req request) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), c.cfg.Timeout*2/5)
	defer cancel()
	return req(ctx, client, again)
}

func isSentinel(err error) bool {
	for _, s := range []error{snapshot.ErrNotFound, snapshot.ErrExists, snapshot.ErrConflict, snapshot.ErrLocked} {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}
