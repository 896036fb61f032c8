package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
	"github.com/snapshotd/snapshotd/snapshot"
)

// timeout is how long a test waits for an event that must come.
const timeout = time.Minute

func await(t *testing.T, what string, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(timeout):
		t.Fatalf("waited in vain until %s", what)
	}
}

// revokeAll ends all leases in an etcd, as if their holders had not renewed them.
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

func TestLockIsLostWithEtcd(t *testing.T) {
	t.Parallel()
	server := embedded.StartEtcd(t)
	c := open(t, catalog.Config{Connect: connect(server.Client(t)), LockTTL: time.Second, Timeout: 2 * time.Second})
	lock, err := c.Lock(t.Context(), "me")
	if err != nil {
		t.Fatal(err)
	}
	server.Close(t)
	await(t, "the lock is known to be lost", lock.Lost())
	lock.Unlock(t.Context())
}

// The lock outlives its lease's first life, and the context that it was taken with, for as long as it is held. This
// test does not run beside others, because its lease is as short as etcd allows.
func TestLockIsRenewed(t *testing.T) {
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client), LockTTL: time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	lock, err := c.Lock(ctx, "me")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	leases, err := client.Leases(t.Context())
	if err != nil || len(leases.Leases) != 1 {
		t.Fatalf("%+v, %v", leases, err)
	}
	lease, err := client.TimeToLive(t.Context(), leases.Leases[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	// A second after its time to live, which etcd has made longer, a lease that was not renewed is gone.
	for end := time.After(time.Duration(lease.GrantedTTL+1) * time.Second); end != nil; {
		if owner, err := c.LockOwner(t.Context()); owner != "me" || err != nil {
			t.Fatalf("the owner is %q, %v, want me", owner, err)
		}
		select {
		case <-lock.Lost():
			t.Fatal("the lock is lost")
		case <-end:
			end = nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	lock.Unlock(t.Context())
	if leases, err := client.Leases(t.Context()); err != nil || len(leases.Leases) > 0 {
		t.Errorf("leases %v, %v are left", leases.Leases, err)
	}
}

func TestCloseGivesLocksBack(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := catalog.New(catalog.Config{Connect: connect(client), Cluster: "default"})
	if _, err := c.Lock(t.Context(), "me"); err != nil {
		t.Fatal(err)
	}
	for range 5 { // a caller that comes second costs no lease
		if _, err := c.Lock(t.Context(), "other"); !errors.Is(err, snapshot.ErrLocked) {
			t.Fatalf("a second lock: %v", err)
		}
	}
	if leases, err := client.Leases(t.Context()); err != nil || len(leases.Leases) != 1 {
		t.Errorf("leases %v, %v, want one", leases.Leases, err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if owner, err := c.LockOwner(t.Context()); owner != "" || err != nil {
		t.Errorf("the owner is %q, %v after Close", owner, err)
	}
}

// reign is one leadership as a test sees it.
type reign struct {
	name  string
	ctx   context.Context
	leave chan struct{}
}

// stand starts candidates and returns where they say that they lead.
func stand(ctx context.Context, c *catalog.Catalog, wg *sync.WaitGroup, names ...string) <-chan reign {
	reigns := make(chan reign)
	for _, name := range names {
		wg.Go(func() {
			_ = c.Lead(ctx, name, func(ctx context.Context, _ *catalog.Term) {
				r := reign{name, ctx, make(chan struct{})}
				select {
				case reigns <- r:
				case <-ctx.Done():
					return
				}
				select {
				case <-r.leave:
				case <-ctx.Done():
				}
			})
		})
	}
	return reigns
}

func next(t *testing.T, reigns <-chan reign) reign {
	t.Helper()
	select {
	case r := <-reigns:
		return r
	case <-time.After(timeout):
		t.Fatal("no candidate leads")
		return reign{}
	}
}

func TestLead(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client), LockTTL: time.Second})
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reigns := stand(ctx, c, &wg, "one", "two", "three")

	var names []string
	for range 3 { // a leader that leaves makes room for another one, or for itself
		r := next(t, reigns)
		select {
		case second := <-reigns:
			t.Fatalf("%s leads beside %s", second.name, r.name)
		default:
		}
		names = append(names, r.name)
		if r.ctx.Err() != nil {
			t.Errorf("%s leads with a context that is done", r.name)
		}
		close(r.leave)
	}
	if names[0] == names[1] && names[1] == names[2] {
		t.Logf("only %q led", names) // possible, and of no importance
	}

	r := next(t, reigns)
	revokeAll(t, client)
	await(t, "the deposed leader is told", r.ctx.Done())
	if err := context.Cause(r.ctx); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the leadership ended because of %v, want its lease", err)
	}
	r = next(t, reigns)

	cancel()
	await(t, "the last leader is told", r.ctx.Done())
	wg.Wait()
	if resp, err := client.Get(t.Context(), "/snapshotd/v1/default/leader"); err != nil || resp.Count != 0 {
		t.Errorf("the leader's key is left: %v, %v", resp, err)
	}
}

func TestTermWritesWhileItLasts(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client), LockTTL: time.Hour})
	due := time.Date(2026, 3, 1, 3, 0, 0, 1, time.UTC)
	read := func(term *catalog.Term, want time.Time) {
		t.Helper()
		if got, err := term.LastDue(t.Context(), "a/b"); err != nil || !got.Equal(want) {
			t.Errorf("last due at %v, %v, want %v", got, err, want)
		}
	}
	var old *catalog.Term
	reign := func(do func(*catalog.Term)) {
		t.Helper()
		ctx, end := context.WithCancel(t.Context())
		_ = c.Lead(ctx, "me", func(_ context.Context, term *catalog.Term) { do(term); end() })
	}
	reign(func(term *catalog.Term) {
		read(term, time.Time{})
		if err := term.PutLastDue(t.Context(), "a/b", due); err != nil {
			t.Fatal(err)
		}
		read(term, due)
		if err := term.Leads(t.Context()); err != nil {
			t.Errorf("a term that lasts: %v", err)
		}
		old = term
	})
	late := func() {
		t.Helper()
		if err := old.PutLastDue(t.Context(), "a/b", due.Add(time.Hour)); !errors.Is(err, snapshot.ErrLocked) {
			t.Errorf("a term that is over wrote: %v", err)
		}
		if err := old.Leads(t.Context()); !errors.Is(err, snapshot.ErrLocked) {
			t.Errorf("a term that is over leads: %v", err)
		}
	}
	late()
	reign(func(term *catalog.Term) {
		late()
		read(term, due)
		if _, err := client.Put(t.Context(), "/snapshotd/v1/default/schedules/a%2Fb", "rubbish"); err != nil {
			t.Fatal(err)
		}
		read(term, time.Time{}) // it must not keep the schedule from running
	})
}

func TestNextLeaderTakesOverAtOnce(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	c := open(t, catalog.Config{Connect: connect(client), LockTTL: time.Hour}) // nothing runs out in this test
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	firstCtx, resign := context.WithCancel(ctx)
	first := next(t, stand(firstCtx, c, &wg, "first"))
	reigns := stand(ctx, c, &wg, "second")
	resign()
	await(t, "the first leader is told", first.ctx.Done())
	if r := next(t, reigns); r.name != "second" {
		t.Errorf("%s leads", r.name)
	}
}

func TestLeadSurvivesAnEtcdThatIsAway(t *testing.T) {
	t.Parallel()
	c := testenv.StartCluster(t, 1)
	cat := open(t, catalog.Config{Connect: connect(c.Client(t)), LockTTL: time.Second, Timeout: time.Second})
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reigns := stand(ctx, cat, &wg, "me")
	r := next(t, reigns)
	c.Kill(0)
	await(t, "the leader is told", r.ctx.Done())
	c.Restart(t, 0)
	next(t, reigns)
}

// The catalog serves the domain while members come and go.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a cluster of processes")
	}
	c := testenv.StartCluster(t, 3)
	cat := open(t, catalog.Config{Connect: connect(c.Client(t))})
	brief := open(t, catalog.Config{Connect: connect(c.Client(t)), Timeout: 2 * time.Second}) // waits less for a member
	leader := c.Leader(t, nil)
	frozen := (leader + 1) % 3

	// A member hangs: each request that meets it is made again with another one, and is done once.
	c.Stop(t, frozen)
	var names []string
	for i := range 3 {
		r := &snapshot.Record{Snapshot: snapshot.Snapshot{Name: fmt.Sprint("s", i), Cluster: "default"}}
		if err := brief.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		r.Node = "changed"
		if err := brief.Update(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Name)
	}
	c.Cont(t, frozen)

	// The leader dies: requests wait for the next one.
	lock, err := cat.Lock(t.Context(), "me")
	if err != nil {
		t.Fatal(err)
	}
	c.Kill(leader)
	c.Eventually(t, "the catalog is written again", func(ctx context.Context) error {
		r := &snapshot.Record{Snapshot: snapshot.Snapshot{Name: "after", Cluster: "default"}}
		err := cat.Create(ctx, r)
		if errors.Is(err, snapshot.ErrExists) {
			return nil
		}
		return err
	})
	select {
	case <-lock.Lost():
		t.Error("the lock is lost although etcd has a quorum")
	default:
	}
	if owner, err := cat.LockOwner(t.Context()); owner != "me" || err != nil {
		t.Errorf("the lock's owner is %q, %v", owner, err)
	}
	var got []string
	for r, err := range cat.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Name)
	}
	if want := append([]string{"after"}, names...); !slices.Equal(got, want) {
		t.Errorf("there are %q, want %q", got, want)
	}
	lock.Unlock(t.Context())

	// The quorum is lost.
	c.Kill(frozen)
	hasty := open(t, catalog.Config{Connect: connect(c.Client(t)), Timeout: time.Second})
	_, err = hasty.Get(t.Context(), "after")
	wantUnavailable(t, err, "quorum")
	wantUnavailable(t, hasty.Create(t.Context(), &snapshot.Record{Snapshot: snapshot.Snapshot{Name: "x"}}), "quorum")
	_, err = hasty.Lock(t.Context(), "me")
	wantUnavailable(t, err, "quorum")
}

// The name of the journal's newest timeline is seen by all replicas, and a leader that is late changes nothing.
func TestATimelineIsNotedOnCondition(t *testing.T) {
	t.Parallel()
	client := embedded.StartEtcd(t).Client(t)
	var log bytes.Buffer
	one := open(t, catalog.Config{Connect: connect(client), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	two := open(t, catalog.Config{Connect: connect(client)})
	reads := func(c *catalog.Catalog, want string) catalog.Timeline {
		t.Helper()
		got, err := c.Timeline(t.Context(), func(name string) bool { return name != "" && name != "damaged" })
		if err != nil || got.Name != want {
			t.Errorf("it is %q, %v, want %q", got.Name, err, want)
		}
		return got
	}
	none := reads(one, "")
	if err := one.PutTimeline(t.Context(), none, "first"); err != nil {
		t.Fatal(err)
	}
	first := reads(two, "first")
	if err := two.PutTimeline(t.Context(), first, "second"); err != nil {
		t.Fatal(err)
	}
	for _, was := range []catalog.Timeline{none, first} {
		if err := one.PutTimeline(t.Context(), was, "late"); err == nil {
			t.Errorf("it was changed from %q", was.Name)
		}
	}
	reads(one, "second")
	for i, damage := range []string{strings.Repeat("x", 1000), "damaged", ""} {
		if _, err := client.Put(t.Context(), "/snapshotd/v1/default/journal/timeline", damage); err != nil {
			t.Fatal(err)
		}
		healed := fmt.Sprint("healed-", i)
		if err := one.PutTimeline(t.Context(), reads(one, ""), healed); err != nil {
			t.Errorf("%.10q is not replaced: %v", damage, err)
		}
		reads(two, healed)
		if !strings.Contains(log.String(), "was replaced") || !strings.Contains(log.String(), "timeline="+healed) {
			t.Errorf("%.10q is replaced without a word: %s", damage, log.String())
		}
	}
}
