package catalogtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

func testCreate(t *testing.T, c snapshot.Catalog) {
	_, err := c.Get(t.Context(), "a")
	wantErr(t, err, snapshot.ErrNotFound)
	r := Record("a", 0)
	mustCreate(t, c, r)
	if r.Version == 0 || r.Etag == "" {
		t.Fatalf("version %d and etag %q are not set", r.Version, r.Etag)
	}
	same(t, mustGet(t, c, "a"), r)

	bare := &snapshot.Record{Snapshot: snapshot.Snapshot{Name: "bare", Cluster: "default"}}
	mustCreate(t, c, bare)
	same(t, mustGet(t, c, "bare"), bare)
}

func testCreateOnce(t *testing.T, c snapshot.Catalog) {
	first := Record("a", 0)
	mustCreate(t, c, first)
	second := Record("a", time.Hour)
	wantErr(t, c.Create(t.Context(), second), snapshot.ErrExists)
	if second.Version != 0 {
		t.Errorf("version is %d after a failed create", second.Version)
	}
	wantErr(t, c.Create(t.Context(), Record("a", 0)), snapshot.ErrExists) // also the very same record
	same(t, mustGet(t, c, "a"), first)
}

func testUpdate(t *testing.T, c snapshot.Catalog) {
	wantErr(t, c.Update(t.Context(), Record("a", 0)), snapshot.ErrConflict) // it never existed
	r := Record("a", 0)
	mustCreate(t, c, r)
	stale := r.Clone()
	r.State, r.Owner, r.Failures = snapshot.StateReady, "", nil
	r.CreateTime = r.CreateTime.Add(-time.Hour)
	if err := c.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if r.Version == stale.Version || r.Etag == stale.Etag {
		t.Fatalf("version %d and etag %q are as before the update", r.Version, r.Etag)
	}
	same(t, mustGet(t, c, "a"), r)
	wantErr(t, c.Update(t.Context(), stale), snapshot.ErrConflict)
	same(t, mustGet(t, c, "a"), r)
	if got := list(t, c, snapshot.Query{PageSize: 10}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("list shows %q after the time was changed", got)
	}
	if err := c.Remove(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Update(t.Context(), r), snapshot.ErrConflict)
}

func testRemove(t *testing.T, c snapshot.Catalog) {
	r := Record("a", 0)
	mustCreate(t, c, r)
	stale := r.Clone()
	if err := c.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Remove(t.Context(), stale), snapshot.ErrConflict)
	if err := c.Remove(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), r); err != nil {
		t.Errorf("removing it again: %v", err)
	}
	_, err := c.Get(t.Context(), "a")
	wantErr(t, err, snapshot.ErrNotFound)
	_, err = c.ByRequestID(t.Context(), r.RequestID)
	wantErr(t, err, snapshot.ErrNotFound)
	if got := list(t, c, snapshot.Query{PageSize: 10}); len(got) > 0 {
		t.Errorf("list shows %q", got)
	}
	mustCreate(t, c, Record("a", 0))
	wantErr(t, c.Remove(t.Context(), r), snapshot.ErrConflict)
}

func testRace(t *testing.T, c snapshot.Catalog) {
	const writers = 8
	compete := func(what string, write func(i int) error, lost error) {
		t.Helper()
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() { errs[i] = write(i) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, lost):
				t.Errorf("%s: %v", what, err)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d of %d won", what, won, writers)
		}
	}
	compete("create", func(int) error { return c.Create(t.Context(), Record("a", 0)) }, snapshot.ErrExists)
	read := mustGet(t, c, "a")
	compete("update", func(i int) error {
		r := read.Clone()
		r.Error = fmt.Sprint("writer ", i%2) // some write the same
		return c.Update(t.Context(), r)
	}, snapshot.ErrConflict)
}

func testScan(t *testing.T, c snapshot.Catalog) {
	var names []string
	for i := range 1200 {
		names = append(names, fmt.Sprintf("n%d", i))
	}
	names = append(names, "a", "a-1", "a.1", "a.json", "a.json-1")
	var wg sync.WaitGroup
	for part := range slices.Chunk(names, len(names)/8+1) {
		wg.Go(func() {
			for _, n := range part {
				r := &snapshot.Record{Snapshot: snapshot.Snapshot{Name: n, Cluster: "default"}}
				if err := c.Create(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var got []string
	for r, err := range c.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 { // what is added while it runs is not of the scan's state
			mustCreate(t, c, Record("zz", 0))
		}
		got = append(got, r.Name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Compare(snapshot.OrderKey(a), snapshot.OrderKey(b))
	})
	if !slices.Equal(got, names) {
		t.Errorf("scan yields %d names, want %d in the order of their order keys", len(got), len(names))
	}
	for range c.Scan(t.Context()) {
		break // a scan can be left
	}
}
