package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// storedSource gives a stored snapshot of a real etcd.
type storedSource struct{ t *testing.T }

func (s storedSource) Snapshot(context.Context) (*cluster.Stream, error) {
	st := testenv.Stored(s.t, 0)
	return &cluster.Stream{
		ReadCloser: io.NopCloser(bytes.NewReader(st.Data)), Size: int64(len(st.Data)),
		Member: cluster.Member{
			ClusterID: st.ClusterID, MemberID: st.MemberID, Version: st.Version, StorageVersion: st.StorageVersion,
		},
	}, nil
}

// service returns a cluster on a catalog, with a backend in memory and a clock that the test moves on.
func service(t *testing.T, c *catalog.Catalog) (*cluster.Cluster, *memory.Backend, func(time.Duration)) {
	t.Helper()
	now := time.Now()
	backend := memory.New("one", snapshot.BackendLocal)
	backend.SetClock(func() time.Time { return now })
	s, err := cluster.New(cluster.Config{
		Name: "default", Node: "node-1", Prefix: "default/", SpoolDir: t.TempDir(), Source: storedSource{t},
		Records: c, Saves: c, History: c, Stores: c, Backends: []repository.Backend{backend},
		Now:       func() time.Time { return now },
		Retention: map[string]retention.Rules{"one": {KeepLast: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, backend, func(d time.Duration) { now = now.Add(d) }
}

// litter puts garbage into every part of a catalog.
func litter(t *testing.T, client *clientv3.Client, name string) {
	t.Helper()
	for _, key := range []string{
		"snapshots/", "snapshots/x", "snapshots/a\nb.~", "snapshots/~~~", "by-time/", "by-time/x/y", "by-time/~",
		"by-time/8000000000000000/" + name, "by-time/ffffffffffffffff/gone", "by-time/0000000000000000/" + name,
		"requests/", "requests/id", "schedules/nightly", "lock/save", "lock/told", "lock/other", "leader", "unknown/key", "",
	} {
		put(t, client, prefix+key, "rubbish")
	}
}

// Whatever is in the catalog: what can be read is saved, listed, reconciled and pruned, and what cannot be read stays.
func TestServiceGoesOnBesideGarbage(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	s, backend, pass := service(t, c)
	save := func(id string) string {
		t.Helper()
		res, err := s.Save(t.Context(), cluster.SaveRequest{RequestID: id, Trigger: snapshot.TriggerScheduled})
		if err != nil || len(res.Warnings) > 0 {
			t.Fatalf("save: %+v, %v", res, err)
		}
		pass(2 * time.Hour)
		return res.Snapshot.Name
	}
	bad := save("bad")
	other := save("other")
	kept := backend.Keys()
	for what, v := range badValues(t, client, bad) {
		put(t, client, recordKey(bad), v)
		litter(t, client, bad)
		reports, err := s.Reconcile(t.Context(), cluster.ReconcileRequest{Repair: true})
		if !errors.Is(err, snapshot.ErrBadRecord) || !strings.Contains(err.Error(), recordKey(bad)) ||
			len(reports) != 1 || reports[0].Err != nil {
			t.Fatalf("%s: %+v, %v", what, reports, err)
		}
		page, err := s.List(t.Context(), snapshot.Query{PageSize: 10})
		if err != nil || len(page.Records) != 1 || page.Records[0].Name != other || len(page.Unreadable) != 1 {
			t.Fatalf("%s: listed are %+v, %v", what, page, err)
		}
		if got, _ := value(t, client, recordKey(bad)); got != v {
			t.Errorf("%s: what cannot be read was changed", what)
		}
	}
	for i := range 3 { // retention, too, leaves it alone
		litter(t, client, bad)
		save(fmt.Sprint("more ", i))
	}
	if err := s.Maintain(t.Context()); !errors.Is(err, snapshot.ErrBadRecord) {
		t.Errorf("maintain: %v", err)
	}
	now := backend.Keys()
	for _, key := range kept {
		if gone := !slices.Contains(now, key); gone != strings.Contains(key, other) {
			t.Errorf("%s is gone: %v", key, gone)
		}
	}
	if _, err := client.Delete(t.Context(), recordKey(bad)); err != nil { // as the error says
		t.Fatal(err)
	}
	_, err := s.Reconcile(t.Context(), cluster.ReconcileRequest{})
	if !errors.Is(err, snapshot.ErrBadRecord) || strings.Contains(err.Error(), bad) { // there is other garbage still
		t.Errorf("reconcile: %v", err)
	}
	if rec, err := s.Get(t.Context(), bad); err != nil || rec.State() != snapshot.StateReady {
		t.Errorf("after its record was removed: %+v, %v", rec, err)
	}
}
