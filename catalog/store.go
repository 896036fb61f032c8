package catalog

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
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
		m, err := parseStore(kv)
		if err != nil {
			return err
		}
		store = snapshot.Store{ID: m.GetId(), Initialized: m.GetInitialized(), Version: kv.ModRevision}
		return nil
	})
	return store, err
}

// maxStore is the most bytes of a store; its id has 26.
const maxStore = 4 << 10

// parseStore returns the message of a store.
func parseStore(kv *mvccpb.KeyValue) (*catalogv1.Store, error) {
	m := &catalogv1.Store{}
	err := proto.Unmarshal(kv.Value, m)
	switch {
	case len(kv.Value) > maxStore:
		err = fmt.Errorf("it has %d bytes, more than %d", len(kv.Value), maxStore)
	case err == nil && m.GetId() == "":
		err = errors.New("it has no id")
	}
	if err != nil {
		return nil, snapshot.ReasonCatalogUnavailable.New("read the store under %q", kv.Key).Final().
			Because(fmt.Errorf("its value is damaged or was written by something else: %w", err)).
			Advise("see that the backend is the right directory or bucket, mounted and whole, and remove the key (%s): "+
				"the store that is found there is remembered anew", removal(string(kv.Key)))
	}
	return m, nil
}

// PutStore remembers a store if the one that is there is still the one that was read. Fields that this version does not
// know are kept.
func (c *Catalog) PutStore(ctx context.Context, backend string, s snapshot.Store) error {
	what := fmt.Sprintf("remember the store of backend %q", backend)
	key := c.keys.store(backend)
	var value string // as an attempt wrote it
	return c.do(ctx, "put store", what, func(ctx context.Context, client *clientv3.Client, again bool) error {
		current, err := c.get(ctx, client, key)
		if err != nil {
			return err
		}
		if current.GetModRevision() == s.Version {
			m := &catalogv1.Store{Id: s.ID, Initialized: s.Initialized}
			if current != nil {
				stored, err := parseStore(current)
				if err != nil {
					return err
				}
				keep(m, stored)
			}
			doc, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				return snapshot.ReasonInternal.New("%s", what).Because(err)
			}
			value = string(doc)
			var done int64
			done, current, err = c.change(ctx, client, key, s.Version, []clientv3.Op{clientv3.OpPut(key, value)})
			if err != nil || done > 0 {
				return err
			}
		}
		if again && current != nil && string(current.Value) == value {
			return nil
		}
		return fmt.Errorf("%s: %w", what, snapshot.ErrConflict)
	})
}
