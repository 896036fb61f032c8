package catalog_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

func TestTheOrderOfReplicasSharesTheClustersEvenly(t *testing.T) {
	t.Parallel()
	const clusters = 3000
	for _, names := range [][]string{
		{"node-1", "node-2", "node-3"},
		{"snapshotd-0", "snapshotd-1"},
		{"a", "a1", "a2", "a3", "a4"},
	} {
		leads := map[string]int{}
		for i := range clusters {
			first := names[0]
			for _, n := range names[1:] {
				if catalog.Before(fmt.Sprintf("cluster-%d", i), n, first) {
					first = n
				}
			}
			leads[first]++
		}
		for _, n := range names {
			if share := clusters / len(names); leads[n] < share*9/10 || leads[n] > share*11/10 {
				t.Errorf("%s comes first for %d of %d clusters, of %d replicas", n, leads[n], clusters, len(names))
			}
		}
	}
}

// An etcd without space elects nobody: a leader that gave way would be missed until there is space.
func TestALeaderDoesNotGiveWayWhereNoOtherCanBeElected(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	client := server.Client(t)
	c := open(t, catalog.Config{Connect: connect(client)})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	_ = c.Lead(ctx, "me", func(ctx context.Context, term *catalog.Term) {
		defer end()
		st, err := client.Status(ctx, server.Endpoints()[0])
		if err != nil {
			t.Error(err)
			return
		}
		alarm := &etcdserverpb.AlarmRequest{
			Action: etcdserverpb.AlarmRequest_ACTIVATE, Alarm: etcdserverpb.AlarmType_NOSPACE, MemberID: st.Header.MemberId,
		}
		if _, err := etcdserverpb.NewMaintenanceClient(client.ActiveConnection()).Alarm(ctx, alarm); err != nil {
			t.Error(err)
			return
		}
		wantUnavailable(t, term.GiveWay(ctx), "quota")
		if ctx.Err() != nil {
			t.Error("the term is over")
		}
		if err := term.Leads(ctx); err != nil {
			t.Errorf("whether it leads needs no space: %v", err)
		}
	})
}

// order returns two names, the first of which comes before the other one.
func order(a, b string) (first, second string) {
	if catalog.Before("default", a, b) {
		return a, b
	}
	return b, a
}

// leadPolitely leads under a name until ctx is done, gives way when it is asked to, and says when it leads.
func leadPolitely(ctx context.Context, t *testing.T, c *catalog.Catalog, wg *sync.WaitGroup, name string, leads chan<- string) {
	wg.Go(func() {
		_ = c.Lead(ctx, name, func(ctx context.Context, term *catalog.Term) {
			leads <- name
			for ctx.Err() == nil {
				asked, err := term.Asked(ctx)
				if err == nil && asked {
					err = term.GiveWay(ctx)
				}
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				_ = backoff.Wait(ctx, 20*time.Millisecond)
			}
		})
	})
}

func TestTheLeaderGivesWayToTheReplicaThatComesFirst(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client), LockTTL: time.Second, AskAfter: time.Nanosecond})
	first, second := order("one", "two")
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	leads := make(chan string, 10)
	leadPolitely(ctx, t, c, &wg, second, leads)
	if got := leader(t, leads); got != second {
		t.Fatalf("%s leads, want %s, which is alone", got, second)
	}
	leadPolitely(ctx, t, c, &wg, first, leads)
	for leader(t, leads) != first { // where all is slow, the other one may lose its lease and lead again before
	}
	if name, err := c.Leader(t.Context()); err != nil || name != first {
		t.Errorf("the catalog says that %q leads, %v", name, err)
	}
	if resp, err := client.Get(t.Context(), "/snapshotd/v1/default/successor"); err != nil || resp.Count != 0 {
		t.Errorf("the question is left: %v, %v", resp, err)
	}
	// The other one stands for election again, and does not ask.
	asksNothing(ctx, t, client, second)
}

func TestAReplicaThatHasNotWaitedLongDoesNotAsk(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client), LockTTL: time.Second, AskAfter: time.Hour})
	first, second := order("one", "two")
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	leads := make(chan string, 10)
	leadPolitely(ctx, t, c, &wg, second, leads)
	leader(t, leads)
	leadPolitely(ctx, t, c, &wg, first, leads)
	asksNothing(ctx, t, client, first)
}

// asksNothing waits for some rounds in which a replica may ask for the leadership.
func asksNothing(ctx context.Context, t *testing.T, client *clientv3.Client, name string) {
	t.Helper()
	ctx, end := context.WithTimeout(ctx, 3*time.Second)
	defer end()
	for ctx.Err() == nil {
		resp, err := client.Get(t.Context(), "/snapshotd/v1/default/successor")
		if err != nil || resp.Count > 0 && string(resp.Kvs[0].Value) == name {
			t.Fatalf("%s has asked: %v, %v", name, resp, err)
		}
		_ = backoff.Wait(ctx, 50*time.Millisecond)
	}
}

func leader(t *testing.T, leads <-chan string) string {
	t.Helper()
	select {
	case name := <-leads:
		return name
	case <-time.After(timeout):
		t.Fatal("nobody leads")
		return ""
	}
}
