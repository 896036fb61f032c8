package catalog_test

import (
	"context"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/catalog/conformance"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/snapshot"
)

// forgetful is a watcher whose events lack the records as they were before, like the events of etcd that come while it
// sets a watch up.
type forgetful struct{ clientv3.Watcher }

func (f forgetful) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	return rewritten(ctx, f.Watcher.Watch(ctx, key, opts...), func(r *clientv3.WatchResponse) {
		for _, ev := range r.Events {
			ev.PrevKv = nil
		}
	})
}

// rewritten hands responses on that were changed.
func rewritten(ctx context.Context, in clientv3.WatchChan, edit func(*clientv3.WatchResponse)) clientv3.WatchChan {
	out := make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		for r := range in {
			edit(&r)
			select {
			case out <- r:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

func TestFollowingAsksForWhatWasBeforeWhenEtcdLeavesItOut(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	client.Watcher = forgetful{client.Watcher}
	c := open(t, catalog.Config{Connect: connect(client)})
	next, stop := iter.Pull2(c.Changes(t.Context(), snapshot.Position{}))
	defer stop()
	if _, err, _ := next(); err != nil {
		t.Fatal(err)
	}
	rec := conformance.Record("a", 0)
	for _, do := range []func() error{
		func() error { return c.Create(t.Context(), rec) },
		func() error { rec.Pinned = false; return c.Update(t.Context(), rec) },
		func() error { return c.Remove(t.Context(), rec) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for range 3 {
		ch, err, _ := next()
		if err != nil || len(ch.Records) != 1 {
			t.Fatalf("after %q: %+v, %v", got, ch, err)
		}
		got = append(got, pinned(ch.Records[0].Before)+" "+pinned(ch.Records[0].After))
	}
	if want := []string{"none true", "true false", "false none"}; !slices.Equal(got, want) {
		t.Errorf("pinned before and after: %q, want %q", got, want)
	}
}

func pinned(rec *snapshot.Record) string {
	if rec == nil {
		return "none"
	}
	return strconv.FormatBool(rec.Pinned)
}

func TestFollowingGoesOnWhenEtcdIsBack(t *testing.T) {
	t.Parallel()
	etcd := testenv.StartCluster(t, 3)
	client := etcd.Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next, stop := iter.Pull2(c.Changes(ctx, snapshot.Position{}))
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
		etcd.Eventually(t, "the record is created", func(ctx context.Context) error {
			return c.Create(ctx, conformance.Record(name, 0))
		})
		etcd.Restart(t, (i+1)%3)
		want(name)
	}
}

// On a cluster without saves, the token of a watch stays young: etcd reports its revision on a watch without events.
func TestFollowingAdvancesWithoutEvents(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a process")
	}
	client := testenv.StartCluster(t, 1, testenv.Progress(100*time.Millisecond)).Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	next, stop := iter.Pull2(c.Changes(t.Context(), snapshot.Position{}))
	defer stop()
	begin, err, _ := next()
	if err != nil {
		t.Fatal(err)
	}
	put(t, client, "/elsewhere", "it is no record")
	for at := begin; at.Revision <= begin.Revision; {
		if at, err, _ = next(); err != nil || len(at.Records) > 0 || at.History != begin.History {
			t.Fatalf("%+v, %v", at, err)
		}
	}
}

// rewound is a watcher of an etcd that reports a revision of long ago when there are no events.
type rewound struct{ clientv3.Watcher }

func (w rewound) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	return rewritten(ctx, w.Watcher.Watch(ctx, key, opts...), func(r *clientv3.WatchResponse) {
		if r.Created {
			return
		}
		r.Events, r.Header.Revision = nil, 1
	})
}

// An etcd that was restored from a time before reports a revision that is lower than the one that was followed.
func TestFollowingExpiresWhenTheRevisionGoesBack(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	client.Watcher = rewound{client.Watcher}
	c := open(t, catalog.Config{Connect: connect(client)})
	create(t, c, 1)
	next, stop := iter.Pull2(c.Changes(t.Context(), snapshot.Position{}))
	defer stop()
	if _, err, _ := next(); err != nil {
		t.Fatal(err)
	}
	put(t, client, "/snapshotd/v1/default/snapshots/a.~", "the watch answers")
	if ch, err, _ := next(); snapshot.ReasonOf(err) != snapshot.ReasonWatchExpired ||
		!strings.Contains(err.Error(), "etcd is at revision 1") {
		t.Errorf("%+v, %v", ch, err)
	}
}

// An etcd that was restored from yesterday gets beyond the revision of a token with something else.
func TestFollowingExpiresInAnotherHistory(t *testing.T) {
	t.Parallel()
	first := open(t, catalog.Config{Connect: connect(embedded.StartEtcd(t).Client(t))})
	second := open(t, catalog.Config{Connect: connect(embedded.StartEtcd(t).Client(t))})
	create(t, first, 2)
	next, stop := iter.Pull2(first.Changes(t.Context(), snapshot.Position{}))
	defer stop()
	begin, err, _ := next()
	if err != nil {
		t.Fatal(err)
	}
	create(t, second, 10)
	later := begin.Position // as if etcd had been restored with the same id: Raft begins with its first terms
	cluster, _, _ := strings.Cut(later.History, ".")
	later.History = cluster + ".1000000"
	rubbish := snapshot.Position{Revision: begin.Revision, History: "x"}
	for name, c := range map[string]struct {
		in    *catalog.Catalog
		after snapshot.Position
		want  snapshot.Reason
	}{
		"the same":        {first, begin.Position, ""},
		"another id":      {second, begin.Position, snapshot.ReasonWatchExpired},
		"an earlier term": {first, later, snapshot.ReasonWatchExpired},
		"rubbish":         {first, rubbish, snapshot.ReasonWatchExpired},
	} {
		next, stop := iter.Pull2(c.in.Changes(t.Context(), c.after))
		if ch, err, _ := next(); (err == nil) != (c.want == "") || err != nil && snapshot.ReasonOf(err) != c.want {
			t.Errorf("%s: %+v, %v, want %q", name, ch, err, c.want)
		}
		stop()
	}
}

// An etcd that takes the place of the one that is followed, under the same address, is not taken for it.
func TestFollowingExpiresWhenAnotherEtcdTakesThePlace(t *testing.T) {
	t.Parallel()
	first, second := embedded.StartEtcd(t), embedded.StartEtcd(t)
	hostOf := func(e *embedded.Etcd) string { return strings.TrimPrefix(e.Endpoints()[0], "http://") }
	proxy := testenv.StartProxy(t, hostOf(first))
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + proxy.Addr()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	next, stop := iter.Pull2(open(t, catalog.Config{Connect: connect(client)}).Changes(ctx, snapshot.Position{}))
	defer stop()
	if _, err, _ := next(); err != nil {
		t.Fatal(err)
	}
	proxy.Retarget(hostOf(second))
	// It gets beyond the revision of the first one.
	create(t, open(t, catalog.Config{Connect: connect(second.Client(t))}), 20)
	if ch, err, _ := next(); snapshot.ReasonOf(err) != snapshot.ReasonWatchExpired {
		t.Errorf("after the change: %+v, %v, want WATCH_EXPIRED", ch, err)
	}
}
