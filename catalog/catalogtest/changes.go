package catalogtest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// following reads Changes in the test's own time.
type following struct {
	t    *testing.T
	next func() (snapshot.Changes, error, bool)
	at   int64
}

// follow returns the changes after a revision. What was not read when the test ends is left.
func follow(t *testing.T, c snapshot.Catalog, after int64) *following {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	next, stop := iter.Pull2(c.Changes(ctx, snapshot.Position{Revision: after}))
	t.Cleanup(func() {
		cancel()
		stop()
	})
	return &following{t: t, next: next, at: after}
}

// position reads the first changes, which say that none can be missed any more.
func (f *following) position() int64 {
	f.t.Helper()
	ch, err, ok := f.next()
	if err != nil || !ok || len(ch.Records) > 0 || ch.Revision == 0 {
		f.t.Fatalf("first come %+v, %v, %v", ch, err, ok)
	}
	f.at = ch.Revision
	return f.at
}

// changes reads the next n changes of records, as "before>after" of their errors, and checks that revisions rise.
func (f *following) changes(n int) (got []string) {
	f.t.Helper()
	said := func(r *snapshot.Record) string {
		if r == nil {
			return "-"
		}
		return r.Name + r.Error
	}
	for len(got) < n {
		ch, err, ok := f.next()
		if err != nil || !ok {
			f.t.Fatalf("after %q: %v, %v", got, err, ok)
		}
		if ch.Revision < f.at || ch.Revision == f.at && len(ch.Records) > 0 {
			f.t.Fatalf("revision %d comes after %d", ch.Revision, f.at)
		}
		f.at = ch.Revision
		for _, r := range ch.Records {
			got = append(got, said(r.Before)+">"+said(r.After))
		}
	}
	return got
}

func (f *following) want(want ...string) {
	f.t.Helper()
	if got := f.changes(len(want)); !slices.Equal(got, want) {
		f.t.Fatalf("changes %q, want %q", got, want)
	}
}

func testChanges(t *testing.T, c snapshot.Catalog) {
	put := func(r *snapshot.Record, text string) {
		t.Helper()
		r.Error = text
		if err := c.Update(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	a, b := Record("a", 0), Record("b", 0)
	mustCreate(t, c, a)
	put(a, "0")
	live := follow(t, c, 0)
	start := live.position() // what was before is not shown
	put(a, "1")
	b.Error = "1"
	mustCreate(t, c, b)
	put(a, "2")
	between := a.Version
	if err := c.Remove(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	put(a, "3")
	all := []string{"a0>a1", "->b1", "a1>a2", "b1>-", "a2>a3"}
	live.want(all...)

	again := follow(t, c, start) // as if it had broken off
	if at := again.position(); at != start {
		t.Errorf("goes on after %d, want %d", at, start)
	}
	again.want(all...)
	later := follow(t, c, between)
	later.position()
	later.want("b1>-", "a2>a3")
	put(a, "4")
	for _, f := range []*following{live, again, later} {
		f.want("a3>a4")
	}

	old, heir := a.Clone(), Record("heir", 0) // two records in one revision
	old.SupersededBy, old.Error, heir.Error, heir.RequestID, heir.Owner = "heir", "5", "", a.RequestID, ""
	if err := c.Begin(t.Context(), heir, old); err != nil {
		t.Fatal(err)
	}
	got := live.changes(2)
	slices.Sort(got)
	if !slices.Equal(got, []string{"->heir", "a4>a5"}) {
		t.Errorf("changes %q", got)
	}
}

func testSlowFollower(t *testing.T, c snapshot.Catalog) {
	f := follow(t, c, 0)
	f.position()
	r := Record("a", 0)
	r.Error = "0"
	mustCreate(t, c, r)
	want := []string{"->a0"}
	for i := range 300 { // far more than is kept for those who do not read
		want = append(want, fmt.Sprintf("a%d>a%d", i, i+1))
		r.Error = fmt.Sprint(i + 1)
		if err := c.Update(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	f.want(want...)
}

func testFollowerLeaves(t *testing.T, c snapshot.Catalog) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range c.Changes(ctx, snapshot.Position{}) {
		break // it can be left
	}
	for _, err := range c.Changes(ctx, snapshot.Position{}) {
		if cancel(); err != nil && snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
			t.Errorf("after a cancel: %v", err)
		}
	}
}

func testFutureRevision(t *testing.T, c snapshot.Catalog) {
	f := follow(t, c, 0)
	at := f.position()
	next, stop := iter.Pull2(c.Changes(t.Context(), snapshot.Position{Revision: at + 1_000_000})) // of the time before the catalog was restored
	defer stop()
	if _, err, _ := next(); snapshot.ReasonOf(err) != snapshot.ReasonWatchExpired {
		t.Errorf("a revision that is still to come: %v, want WATCH_EXPIRED", err)
	}
}
