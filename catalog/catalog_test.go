package catalog_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/catalogtest"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
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

func TestConformance(t *testing.T) {
	client := testenv.StartEtcd(t).Client(t)
	var clusters atomic.Int32
	catalogtest.Run(t, func(t *testing.T) snapshot.Catalog {
		return open(t, catalog.Config{Connect: connect(client), Cluster: fmt.Sprint("cluster-", clusters.Add(1))})
	})
}
