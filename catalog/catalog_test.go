package catalog_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/conformance"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

func connect(client *clientv3.Client) func(context.Context) (*clientv3.Client, error) {
	return func(context.Context) (*clientv3.Client, error) { return client, nil }
}

// open returns a catalog that is closed when the test ends.
func open(t *testing.T, cfg catalog.Config) *catalog.Catalog {
	t.Helper()
	if cfg.Cluster == "" {
		cfg.Cluster = "default"
	}
	c := catalog.New(cfg)
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return c
}

// put writes a key as somebody else does who may write to etcd.
func put(t *testing.T, client *clientv3.Client, key, value string, opts ...clientv3.OpOption) {
	t.Helper()
	if _, err := client.Put(t.Context(), key, value, opts...); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	conforms(t, client, client)
}

// conforms runs the suite of the port on catalogs that use an etcd as one user does. The other client does what
// somebody else does there.
func conforms(t *testing.T, user, client *clientv3.Client) {
	t.Helper()
	var clusters atomic.Int32
	conformance.Run(t, func(t *testing.T) conformance.Catalog {
		cluster := fmt.Sprint("cluster-", clusters.Add(1))
		c := open(t, catalog.Config{Connect: connect(user), Cluster: cluster, LockTTL: 5 * time.Second})
		return conformance.Catalog{
			Records: c, Saves: c, History: c, Stores: c,
			ExpireLocks: func() { revokeAll(t, client) },
			Compact:     func() { compact(t, client) },
			Spoil: func(name string) {
				put(t, client, fmt.Sprintf("/snapshotd/v1/%s/snapshots/%s.~", cluster, name), "rubbish")
			},
			Wipe: func(name string) {
				if _, err := client.Delete(t.Context(), fmt.Sprintf("/snapshotd/v1/%s/snapshots/%s.~", cluster, name)); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
