package simetcd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/conformance"
	"github.com/snapshotd/snapshotd/internal/testenv/simetcd"
)

func TestMain(m *testing.M) {
	simetcd.Main()
	m.Run()
}

// TestTheyAreAsEtcdForACatalog runs the suite that the catalog passes on etcd.
func TestTheyAreAsEtcdForACatalog(t *testing.T) {
	fleet := simetcd.Start(t, 1, 1, nil)
	client := clientOf(t, fleet.URL(0))
	var clusters atomic.Int32
	conformance.Run(t, func(t *testing.T) conformance.Catalog {
		cluster := fmt.Sprint("cluster-", clusters.Add(1))
		c := catalog.New(catalog.Config{
			Connect: func(context.Context) (*clientv3.Client, error) { return client, nil }, Cluster: cluster, LockTTL: 5 * time.Second,
		})
		t.Cleanup(func() {
			if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
		key := func(name string) string { return fmt.Sprintf("/snapshotd/v1/%s/snapshots/%s.~", cluster, name) }
		return conformance.Catalog{
			Records: c, Saves: c, History: c, Stores: c,
			ExpireLocks: func() { revokeAll(t, client) },
			Compact: func() {
				resp, err := client.Put(t.Context(), "x", "x")
				if err == nil {
					_, err = client.Compact(t.Context(), resp.Header.Revision)
				}
				if err != nil {
					t.Fatal(err)
				}
			},
			Spoil: func(name string) {
				if _, err := client.Put(t.Context(), key(name), "rubbish"); err != nil {
					t.Fatal(err)
				}
			},
			Wipe: func(name string) {
				if _, err := client.Delete(t.Context(), key(name)); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func revokeAll(t *testing.T, client *clientv3.Client) {
	t.Helper()
	resp, err := client.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range resp.Leases {
		_, err := client.Revoke(t.Context(), l.ID)
		if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) { // its holder may have given it back meanwhile
			t.Fatal(err)
		}
	}
}

func TestEachIsByItself(t *testing.T) {
	want := bytes.Repeat([]byte("snapshot"), 10_000)
	fleet := simetcd.Start(t, 300, 1, want)
	for _, i := range []int{0, 1, 251, 299} {
		client := clientOf(t, fleet.URL(i))
		resp, err := client.Put(t.Context(), "/a/leader", fmt.Sprintf("node-%d token", i%2))
		if err != nil || resp.Header.Revision != 2 {
			t.Errorf("%d: %v, %v", i, resp, err)
		}
		stream, err := client.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(stream); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d: the snapshot has %d bytes, and is not the one of %d (%v)", i, len(got), len(want), err)
		}
	}
	if of := fleet.Leaders(t); of["node-0"] != 1 || of["node-1"] != 3 {
		t.Errorf("the leaders are %v", of)
	}
}

func TestLeasesEnd(t *testing.T) {
	client := clientOf(t, simetcd.Start(t, 1, 1, nil).URL(0))
	lease, err := client.Grant(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "a", "b", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	for resp := range client.Watch(t.Context(), "a", clientv3.WithRev(2)) {
		for _, ev := range resp.Events {
			if ev.Type == clientv3.EventTypeDelete {
				return
			}
		}
	}
	t.Error("the key was not deleted")
}

func clientOf(t *testing.T, url string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, Context: t.Context()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
