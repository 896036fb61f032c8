package catalog

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Store returns the store of a backend, or ErrNotFound.
func (c *Catalog) Store(ctx context.Context, backend string) (store snapshot.Store, err error) {
	what := fmt.Sprintf("read the store of backend %q", backend)
	err = c.do(ctx, "get store", what, func(ctx context.Context, client *clientv3.Client, _ bool) error {
		kv, err := c.get(ctx, client, c.keys.store(backend))
		if err == nil && kv == nil {
			err = fmt.Errorf("%s: %w", what, snapshot.ErrNotFound)
		}
		if err != nil {
			return err
		}
		var m catalogv1.Store
		if err := proto.Unmarshal(kv.Value, &m); err != nil {
			return damaged(string(kv.Key), err)
		}
		store = snapshot.Store{ID: m.GetId(), Initialized: m.GetInitialized(), Version: kv.ModRevision}
		return nil
	})
	return store, err
}

// PutStore remembers a store if the one that is there is still the one that was read.
func (c *Catalog) PutStore(ctx context.Context, backend string, s snapshot.Store) error {
	what := fmt.Sprintf("remember the store of backend %q", backend)
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&catalogv1.Store{Id: s.ID, Initialized: s.Initialized})
	if err != nil {
		return snapshot.ReasonInternal.New("%s", what).Because(err)
	}
	key := c.keys.store(backend)
	return c.do(ctx, "put store", what, func(ctx context.Context, client *clientv3.Client, again bool) error {
		done, current, err := c.change(ctx, client, key, s.Version, []clientv3.Op{clientv3.OpPut(key, string(b))})
		if err != nil || done > 0 || again && current != nil && string(current.Value) == string(b) {
			return err
		}
		return fmt.Errorf("%s: %w", what, snapshot.ErrConflict)
	})
}
