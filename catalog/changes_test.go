package catalog_test

import (
	"context"
	"iter"
	"testing"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/catalogtest"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestFollowingExpiresWithACompaction(t *testing.T) {
	client := testenv.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	rec := catalogtest.Record("a", 0)
	if err := c.Create(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	first := rec.Version
	for range 3 {
		if err := c.Update(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Compact(t.Context(), rec.Version); err != nil {
		t.Fatal(err)
	}
	for _, after := range []int64{first, rec.Version - 1} { // of the last one, what was before it is gone
		next, stop := iter.Pull2(c.Changes(t.Context(), after))
		var err error
		for err == nil {
			_, err, _ = next()
		}
		if snapshot.ReasonOf(err) != snapshot.ReasonWatchExpired {
			t.Errorf("after %d: %v, want WATCH_EXPIRED", after, err)
		}
		stop()
	}
	next, stop := iter.Pull2(c.Changes(t.Context(), rec.Version))
	defer stop()
	if ch, err, _ := next(); err != nil || ch.Revision != rec.Version {
		t.Errorf("after the newest: %+v, %v", ch, err)
	}
}

func TestFollowingGoesOnWhenEtcdIsBack(t *testing.T) {
	etcd := testenv.StartCluster(t, 3)
	client := etcd.Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next, stop := iter.Pull2(c.Changes(ctx, 0))
	defer stop()
	if _, err, _ := next(); err != nil {
		t.Fatal(err)
	}
	want := func(name string) {
		t.Helper()
		for {
			ch, err, ok := next()
			if err != nil || !ok {
				t.Fatal(err)
			}
			for _, r := range ch.Records {
				if r.After.Name == name {
					return
				}
				t.Fatalf("%s comes before %s", r.After.Name, name)
			}
		}
	}
	for i, name := range []string{"a", "b", "c"} {
		etcd.Kill(i)
		etcd.Kill((i + 1) % 3) // no quorum
		etcd.Restart(t, i)
		etcd.Eventually(t, "the record is created", func(ctx context.Context) error { return c.Create(ctx, catalogtest.Record(name, 0)) })
		etcd.Restart(t, (i+1)%3)
		want(name)
	}
}
