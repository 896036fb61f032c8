package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

// maxToldValue is the most bytes of a value that tells how far a save is: a number for each of its backends.
const maxToldValue = 64 << 10

// told is how far a save is, as it is stored. Fields that a version does not know are left out.
type told struct {
	Snapshot string           `json:"snapshot"`
	Elapsed  time.Duration    `json:"elapsed_ns"`
	Read     int64            `json:"read_bytes"`
	Total    int64            `json:"total_bytes,omitempty"`
	Written  map[string]int64 `json:"written_bytes,omitempty"`
}

// Tell puts how far the save is beside the lock, on its lease: both go together.
func (l *lease) Tell(ctx context.Context, p snapshot.Progress) error {
	const what = "tell how far the save is"
	value, err := json.Marshal(told{p.Name, p.Elapsed, p.Read, p.Total, p.Written})
	if err != nil {
		return snapshot.ReasonInternal.New(what).Because(err)
	}
	c := l.catalog
	holds := clientv3.Compare(clientv3.LeaseValue(l.key), "=", l.id)
	put := clientv3.OpPut(c.keys.told(), string(value), clientv3.WithLease(l.id))
	return c.do(span.Outside(ctx), "tell", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		resp, err := client.Txn(ctx).If(holds).Then(put).Commit()
		if err == nil && !resp.Succeeded {
			err = fmt.Errorf("%s: %w: the lock was lost", what, snapshot.ErrLocked)
		}
		return err
	})
}

// Told returns how far the save is for which the lock is held, as its holder has told last; nil when the lock is free,
// or nothing was told that can be read. A value that is not on the lease of the lock is nobody's.
func (c *Catalog) Told(ctx context.Context) (p *snapshot.Progress, err error) {
	const what = "read how far the save is"
	err = c.do(ctx, "told", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		p = nil
		resp, err := client.Txn(ctx).Then(clientv3.OpGet(c.keys.lock()), clientv3.OpGet(c.keys.told())).Commit()
		if err != nil {
			return err
		}
		lock, value := resp.Responses[0].GetResponseRange().GetKvs(), resp.Responses[1].GetResponseRange().GetKvs()
		if len(lock) == 0 || len(value) == 0 || lock[0].Lease == 0 || lock[0].Lease != value[0].Lease {
			return nil
		}
		if p, err = parseTold(value[0].Value); err != nil {
			c.warn(ctx, string(value[0].Key), value[0].ModRevision, what+": the value is damaged, and left out", err)
		}
		return nil
	})
	return p, err
}

// parseTold reads a value. Whoever can write to etcd can put anything there.
func parseTold(value []byte) (*snapshot.Progress, error) {
	if len(value) > maxToldValue {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(value), maxToldValue)
	}
	var t told
	if err := json.Unmarshal(value, &t); err != nil {
		return nil, err
	}
	if !snapshot.ValidName(t.Snapshot) || len(t.Snapshot) > maxNameLen {
		return nil, fmt.Errorf("%.100q is not a snapshot's name", t.Snapshot)
	}
	sizes := []int64{t.Read, t.Total}
	for _, n := range t.Written {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		if n < 0 || n > snapshot.MaxSize {
			return nil, fmt.Errorf("%d is no number of bytes", n)
		}
	}
	if t.Elapsed < 0 || t.Elapsed > maxDuration {
		return nil, errors.New("it is of a save that takes 100 years")
	}
	return &snapshot.Progress{Name: t.Snapshot, Elapsed: t.Elapsed, Read: t.Read, Total: t.Total, Written: t.Written}, nil
}
