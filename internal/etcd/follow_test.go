package etcd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/journal"
)

func dial(t *testing.T, e *embedded.Etcd) journal.Member {
	t.Helper()
	_, m, err := etcd.NewFollowed(newSource(t, e.Endpoints()...)).Dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func putKey(t *testing.T, c *clientv3.Client, key string) int64 {
	t.Helper()
	resp, err := c.Put(t.Context(), key, "value")
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func TestTheLastCompactionIsFoundAtAnyTime(t *testing.T) {
	t.Parallel()
	e := embedded.StartEtcd(t)
	m, client := dial(t, e), e.Client(t)
	known := int64(0)
	check := func(want int64) {
		t.Helper()
		got, err := m.Compacted(t.Context(), known)
		if err != nil || got != want {
			t.Errorf("the last compaction was up to %d (%v), want %d", got, err, want)
		}
		known = got
	}
	check(1)
	for range 10 {
		putKey(t, client, "a")
	}
	check(1)
	e.Compact(t, 4)
	check(4)
	check(4)
	e.Compact(t, 6)
	e.Compact(t, 9)
	check(9)
	known = 0
	check(9)
}

func TestAWatchBeginsAtItsRevisionAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	e := embedded.StartEtcd(t)
	m, client := dial(t, e), e.Client(t)
	first := putKey(t, client, "a")
	second := putKey(t, client, "b")
	ctx, cancel := context.WithCancel(t.Context())
	w, err := m.Watch(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for len(got) < 2 {
		all, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			got = append(got, c.Main)
		}
	}
	if got[0] != first || got[1] != second {
		t.Errorf("the revisions are %v, want %d and %d", got, first, second)
	}
	cancel()
	if all, err := w.Next(); err == nil {
		t.Errorf("after its end, it has %v", all)
	}
	e.Compact(t, second)
	if w, err = m.Watch(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	_, err = w.Next()
	compacted, ok := errors.AsType[*journal.CompactedError](err)
	if !ok || compacted.Revision != second {
		t.Errorf("a watch from revision %d ends with %v, want that %d was compacted", first, err, second)
	}
}

func TestALeaseIsAnsweredForAlsoWhenItIsGone(t *testing.T) {
	t.Parallel()
	e := embedded.StartEtcd(t)
	m, client := dial(t, e), e.Client(t)
	lease, err := client.Grant(t.Context(), 4711)
	if err != nil {
		t.Fatal(err)
	}
	list, err := m.Leases(t.Context())
	if err != nil || len(list.IDs) != 1 || list.IDs[0] != int64(lease.ID) || list.Revision == 0 {
		t.Errorf("the leases are %+v, %v", list, err)
	}
	state, err := m.Lease(t.Context(), int64(lease.ID))
	if err != nil || state.TTL != 4711 || state.Revision == 0 {
		t.Errorf("the lease is %+v, %v", state, err)
	}
	if _, err := client.Revoke(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	state, err = m.Lease(t.Context(), int64(lease.ID))
	if err != nil || state.TTL != 0 || state.Revision == 0 {
		t.Errorf("the lease that is gone is %+v, %v", state, err)
	}
}

func TestTurningAuthenticationOnIsSeen(t *testing.T) {
	t.Parallel()
	e := embedded.StartEtcd(t)
	m, client := dial(t, e), e.Client(t)
	ask := func() journal.AuthState {
		t.Helper()
		state, err := m.Auth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	first := ask()
	_, err := client.UserAdd(t.Context(), "root", "secret")
	if err == nil {
		_, err = client.UserGrantRole(t.Context(), "root", "root")
	}
	if err != nil {
		t.Fatal(err)
	}
	added := ask()
	if _, err := client.AuthEnable(t.Context()); err != nil {
		t.Fatal(err)
	}
	on := ask()
	if first.Enabled || added.Enabled || added.Revision <= first.Revision || !on.Enabled || on.Revision != added.Revision {
		t.Errorf("before, with a user, and turned on, it is %+v, %+v and %+v", first, added, on)
	}
}

// Of three members, a follower is dialled, and another one than the member to avoid.
func TestAFollowerIsDialledAndNotTheOneToAvoid(t *testing.T) {
	t.Parallel()
	c := testenv.StartCluster(t, 3)
	f := etcd.NewFollowed(newSource(t, c.Endpoints()...))
	dialled := func(avoid string) journal.Identity {
		t.Helper()
		id, m, err := f.Dial(t.Context(), avoid)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		return id
	}
	leader := c.Endpoints()[c.Leader(t, func(int) bool { return true })]
	first := dialled("")
	if first.Endpoint == leader {
		t.Errorf("the leader is dialled: %+v", first)
	}
	if next := dialled(first.Endpoint); next.Endpoint == first.Endpoint || next.Endpoint == leader || next.ClusterID != first.ClusterID {
		t.Errorf("without %s, %+v is dialled, want the other follower", first.Endpoint, next)
	}
}

func TestTheOnlyMemberIsDialledThoughItIsToBeAvoided(t *testing.T) {
	t.Parallel()
	a := embedded.StartEtcd(t)
	f := etcd.NewFollowed(newSource(t, a.Endpoints()...))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, m, err := f.Dial(ctx, a.Endpoints()[0])
	if err != nil {
		t.Fatalf("the only member is avoided: %v", err)
	}
	m.Close()
}
