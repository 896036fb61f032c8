package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

func testCreate(t *testing.T, c Catalog) {
	_, err := c.Records.Get(t.Context(), "a")
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

func testCopies(t *testing.T, c Catalog) {
	r := Record("a", 0)
	mustCreate(t, c, r)
	want := mustGet(t, c, "a")
	spoil := func(r *snapshot.Record) {
		r.Labels["team"], r.Seen["local"], r.EncryptionRecipients[0] = "spoiled", time.Time{}, "spoiled"
		r.CopyFailed("local", errors.New("spoiled"), true, time.Now())
	}
	spoil(r)
	same(t, mustGet(t, c, "a"), want)
	spoil(mustGet(t, c, "a"))
	for r, err := range c.Records.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		spoil(r)
	}
	p, err := c.History.List(t.Context(), snapshot.Query{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	spoil(p.Records[0])
	r, err = c.Saves.ByRequestID(t.Context(), want.RequestID)
	if err != nil {
		t.Fatal(err)
	}
	spoil(r)
	same(t, mustGet(t, c, "a"), want)
}

// testCancelled checks that each call with a context that is done says so, and changes nothing.
func testCancelled(t *testing.T, c Catalog) {
	r := Record("a", 0)
	mustCreate(t, c, r)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	get := func(_ any, err error) error { return err }
	for what, err := range map[string]error{
		"get":        get(c.Records.Get(ctx, "a")),
		"create":     c.Records.Create(ctx, Record("b", 0)),
		"update":     c.Records.Update(ctx, r.Copy()),
		"remove":     c.Records.Remove(ctx, r.Copy()),
		"lock":       get(c.Saves.Lock(ctx, "me")),
		"lock owner": get(c.Saves.LockOwner(ctx)),
		"told":       get(c.Saves.Told(ctx)),
		"begin":      c.Saves.Begin(ctx, saving("c", 0, "", ""), nil),
		"request":    get(c.Saves.ByRequestID(ctx, r.RequestID)),
		"list":       get(c.History.List(ctx, snapshot.Query{PageSize: 1})),
		"store":      get(c.Stores.Store(ctx, "local")),
		"put store":  c.Stores.PutStore(ctx, "local", snapshot.Store{ID: "x"}),
	} {
		if snapshot.ReasonOf(err) != snapshot.ReasonCancelled || !strings.Contains(err.Error(), "enough") {
			t.Errorf("%s: %v, want CANCELLED and its cause", what, err)
		}
	}
	for _, err := range c.Records.Scan(ctx) {
		wantErr(t, err, context.Cause(ctx))
	}
	for _, err := range c.History.Changes(ctx, snapshot.Position{}) {
		wantErr(t, err, context.Cause(ctx))
	}
	wantOwner(t, c, "")
	if got := list(t, c, snapshot.Query{PageSize: 10}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("there is %q after cancelled calls", got)
	}
	same(t, mustGet(t, c, "a"), r)
}

func testCreateOnce(t *testing.T, c Catalog) {
	first := Record("a", 0)
	mustCreate(t, c, first)
	second := Record("a", time.Hour)
	wantErr(t, c.Records.Create(t.Context(), second), snapshot.ErrExists)
	if second.Version != 0 {
		t.Errorf("version is %d after a failed create", second.Version)
	}
	wantErr(t, c.Records.Create(t.Context(), Record("a", 0)), snapshot.ErrExists) // also the very same record
	same(t, mustGet(t, c, "a"), first)
}

func testUpdate(t *testing.T, c Catalog) {
	wantErr(t, c.Records.Update(t.Context(), Record("a", 0)), snapshot.ErrConflict) // it never existed
	r := Record("a", 0)
	mustCreate(t, c, r)
	stale := r.Copy()
	r.Written("s3", nil, r.CreateTime)
	r.Conclude(2*time.Second, nil)
	r.CreateTime = r.CreateTime.Add(-time.Hour)
	if err := c.Records.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if r.Version == stale.Version || r.Etag == stale.Etag {
		t.Fatalf("version %d and etag %q are as before the update", r.Version, r.Etag)
	}
	same(t, mustGet(t, c, "a"), r)
	wantErr(t, c.Records.Update(t.Context(), stale), snapshot.ErrConflict)
	same(t, mustGet(t, c, "a"), r)
	if got := list(t, c, snapshot.Query{PageSize: 10}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("list shows %q after the time was changed", got)
	}
	if err := c.Records.Remove(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Records.Update(t.Context(), r), snapshot.ErrConflict)
}

func testRemove(t *testing.T, c Catalog) {
	r := Record("a", 0)
	mustCreate(t, c, r)
	stale := r.Copy()
	if err := c.Records.Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Records.Remove(t.Context(), stale), snapshot.ErrConflict)
	if err := c.Records.Remove(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := c.Records.Remove(t.Context(), r); err != nil {
		t.Errorf("removing it again: %v", err)
	}
	_, err := c.Records.Get(t.Context(), "a")
	wantErr(t, err, snapshot.ErrNotFound)
	_, err = c.Saves.ByRequestID(t.Context(), r.RequestID)
	wantErr(t, err, snapshot.ErrNotFound)
	if got := list(t, c, snapshot.Query{PageSize: 10}); len(got) > 0 {
		t.Errorf("list shows %q", got)
	}
	mustCreate(t, c, Record("a", 0))
	wantErr(t, c.Records.Remove(t.Context(), r), snapshot.ErrConflict)
}

func testRace(t *testing.T, c Catalog) {
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
	compete("create", func(int) error { return c.Records.Create(t.Context(), Record("a", 0)) }, snapshot.ErrExists)
	read := mustGet(t, c, "a")
	compete("update", func(i int) error {
		r := read.Copy()
		r.Node = fmt.Sprint("writer ", i%2) // some write the same
		return c.Records.Update(t.Context(), r)
	}, snapshot.ErrConflict)
}

func testScan(t *testing.T, c Catalog) {
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
				if err := c.Records.Create(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var got []string
	for r, err := range c.Records.Scan(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 { // a record that is added meanwhile is not of the scan's revision
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
	for range c.Records.Scan(t.Context()) {
		break // a scan can be left
	}
}
