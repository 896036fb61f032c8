package loader

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Config says how much to load.
type Config struct {
	Bytes    int64                   // the size that the database (DbSize in etcd's status) is to reach
	Seed     uint64                  // the same seed makes the same objects, though not in the same order
	Progress func(done, total int64) // told the database's size now and then; may be nil
}

const (
	workers = 8
	// A transaction is as large as etcd takes with its defaults: 128 operations and 1.5 MiB.
	maxOps      = 100
	maxTxnBytes = 1 << 20
	// sizeChecks is how often the size is looked at on the way.
	sizeChecks = 100
)

// Load writes until the database of the first endpoint has reached the size. Half-way it compacts, so that the database
// has free pages, too. etcd's quota must be larger than the size.
func Load(ctx context.Context, client *clientv3.Client, cfg Config) error {
	if cfg.Bytes <= 0 {
		return fmt.Errorf("load etcd: %d bytes are no size", cfg.Bytes)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(int64, int64) {}
	}
	l := &load{client: client, cfg: cfg}
	for i := range l.writers {
		random := rand.New(rand.NewPCG(cfg.Seed, uint64(i))) //nolint:gosec // data for tests
		l.writers[i] = &writer{id: i, rand: random, client: client}
	}
	if err := l.run(ctx); err != nil {
		if errors.Is(err, rpctypes.ErrNoSpace) {
			err = fmt.Errorf("%w; start etcd with a larger --quota-backend-bytes", err)
		}
		return fmt.Errorf("load etcd: %w", err)
	}
	return nil
}

type load struct {
	client  *clientv3.Client
	cfg     Config
	writers [workers]*writer
}

func (l *load) run(ctx context.Context) error {
	for compacted := false; ; {
		st, err := l.client.Status(ctx, l.client.Endpoints()[0])
		if err != nil {
			return err
		}
		l.cfg.Progress(st.DbSize, l.cfg.Bytes)
		if st.DbSize >= l.cfg.Bytes {
			return nil
		}
		if !compacted && st.DbSize >= l.cfg.Bytes/2 {
			if _, err := l.client.Compact(ctx, st.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
				return err
			}
			compacted = true
		}
		// A small step at a time when little is missing: the size must not be exceeded by much.
		if err := l.write(ctx, min(l.cfg.Bytes-st.DbSize, l.cfg.Bytes/sizeChecks+workers*maxTxnBytes)); err != nil {
			return err
		}
	}
}

// write writes about as many bytes, side by side.
func (l *load) write(ctx context.Context, bytes int64) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	for _, w := range l.writers {
		group.Go(func() {
			if err := w.write(ctx, max(1, bytes/workers)); err != nil {
				stop(err)
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// writer makes objects with names of its own.
type writer struct {
	id     int
	rand   *rand.Rand
	client *clientv3.Client
	made   int // objects 0 to made-1 exist, if they were not deleted since
}

func (w *writer) write(ctx context.Context, bytes int64) error {
	for bytes > 0 {
		ops, size := w.batch(min(bytes, maxTxnBytes))
		if _, err := w.client.Txn(ctx).Then(ops...).Commit(); err != nil {
			return err
		}
		bytes -= size
	}
	return nil
}

// batch returns a transaction of about as many bytes: mostly new objects, every fifth or so an update of an old one,
// and now and then a deletion.
func (w *writer) batch(bytes int64) (ops []clientv3.Op, size int64) {
	used := map[int]bool{} // a transaction may touch a key once
	for len(ops) < maxOps && size < bytes {
		n, deleted := w.made, false
		if p := w.rand.Float64(); w.made > 0 && p < 0.25 {
			n, deleted = w.rand.IntN(w.made), p < 0.05
		}
		if used[n] {
			continue
		}
		used[n] = true
		if deleted {
			ops = append(ops, clientv3.OpDelete(w.key(n)))
			size += 100
			continue
		}
		w.made = max(w.made, n+1)
		value := w.value(n)
		ops = append(ops, clientv3.OpPut(w.key(n), value))
		size += int64(len(value))
	}
	return ops, size
}
