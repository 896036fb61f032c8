package conformance

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
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

// follow returns the changes after a revision. Changes that were not read when the test ends are left.
func follow(t *testing.T, c Catalog, after int64) *following {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	next, stop := iter.Pull2(c.History.Changes(ctx, snapshot.Position{Revision: after}))
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

// changes reads the next n changes of records, as "before>after" of their nodes, and checks that revisions rise.
func (f *following) changes(n int) (got []string) {
	f.t.Helper()
	said := func(r *snapshot.Record) string {
		if r == nil {
			return "-"
		}
		return r.Name + r.Node
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

func testChanges(t *testing.T, c Catalog) {
	put := func(r *snapshot.Record, text string) {
		t.Helper()
		r.Node = text
		if err := c.Records.Update(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	a, b := Record("a", 0), Record("b", 0)
	mustCreate(t, c, a)
	put(a, "0")
	live := follow(t, c, 0)
	start := live.position() // the changes before it are not shown
	put(a, "1")
	b.Node = "1"
	mustCreate(t, c, b)
	put(a, "2")
	between := a.Version
	if err := c.Records.Remove(t.Context(), b); err != nil {
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

	old, heir := a.Copy(), saving("heir", 0, a.RequestID, "") // two records in one revision
	old.Node, heir.Node = "5", ""
	if err := c.Saves.Begin(t.Context(), heir, old); err != nil {
		t.Fatal(err)
	}
	got := live.changes(2)
	slices.Sort(got)
	if !slices.Equal(got, []string{"->heir", "a4>a5"}) {
		t.Errorf("changes %q", got)
	}
}

func testSlowFollower(t *testing.T, c Catalog) {
	f := follow(t, c, 0)
	f.position()
	r := Record("a", 0)
	r.Node = "0"
	mustCreate(t, c, r)
	want := []string{"->a0"}
	for i := range 300 { // far more than is kept for readers that do not read
		want = append(want, fmt.Sprintf("a%d>a%d", i, i+1))
		r.Node = fmt.Sprint(i + 1)
		if err := c.Records.Update(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	f.want(want...)
}

func testFollowerLeaves(t *testing.T, c Catalog) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range c.History.Changes(ctx, snapshot.Position{}) {
		break // it can be left
	}
	for _, err := range c.History.Changes(ctx, snapshot.Position{}) {
		if cancel(); err != nil && snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
			t.Errorf("after a cancel: %v", err)
		}
	}
}

func testFutureRevision(t *testing.T, c Catalog) {
	f := follow(t, c, 0)
	at := f.position()
	// It is of the time before the catalog was restored.
	if err := refused(t, c, at+1_000_000); snapshot.ReasonOf(err) != snapshot.ReasonWatchExpired {
		t.Errorf("a revision that is still to come: %v, want WATCH_EXPIRED", err)
	}
}

// refused reads the changes after a revision until their error.
func refused(t *testing.T, c Catalog, after int64) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, err := range c.History.Changes(ctx, snapshot.Position{Revision: after}) {
		if err != nil {
			return err
		}
	}
	return nil
}

func testCompactedRevision(t *testing.T, c Catalog) {
	r := Record("a", 0)
	mustCreate(t, c, r)
	first := r.Version
	for range 3 {
		if err := c.Records.Update(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	c.Compact()
	// The last change is forgotten as well: the record as it was before it is compacted.
	for _, after := range []int64{first, r.Version - 1} {
		if err := refused(t, c, after); snapshot.ReasonOf(err) != snapshot.ReasonWatchExpired {
			t.Errorf("after %d: %v, want WATCH_EXPIRED", after, err)
		}
	}
	if at := follow(t, c, r.Version).position(); at != r.Version {
		t.Errorf("after the newest revision %d, it goes on at %d", r.Version, at)
	}
}

func testFollowerWaits(t *testing.T, c Catalog) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	elements, end := make(chan snapshot.Changes), make(chan error, 1)
	go func() {
		for ch, err := range c.History.Changes(ctx, snapshot.Position{}) {
			if err != nil {
				end <- err
				return
			}
			elements <- ch
		}
	}()
	next := func() (records []snapshot.Change) {
		t.Helper()
		select {
		case ch := <-elements:
			return ch.Records
		case err := <-end:
			t.Fatal(err)
		case <-time.After(time.Minute):
			t.Fatal("no changes come")
		}
		return nil
	}
	next() // nothing has happened yet
	mustCreate(t, c, Record("a", 0))
	for len(next()) == 0 { // a later revision without changes of records
	}
	cancel(errors.New("enough"))
	select {
	case err := <-end:
		if snapshot.ReasonOf(err) != snapshot.ReasonCancelled || !strings.Contains(err.Error(), "enough") {
			t.Errorf("the changes end with %v, want CANCELLED and its cause", err)
		}
	case <-time.After(time.Minute):
		t.Error("the changes do not end with their context")
	}
}
