// Package catalogtest is what the domain relies on in a catalog, as tests for any implementation of [snapshot.Catalog].
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

// Run runs the tests. open returns an empty catalog; the same one when it is called again within a test.
func Run(t *testing.T, open func(t *testing.T) snapshot.Catalog) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, c snapshot.Catalog)
	}{
		{"a record is read back as it was created", testCreate},
		{"a name is created once", testCreateOnce},
		{"an update needs the version that was read", testUpdate},
		{"a removal needs the version that was read", testRemove},
		{"of two writers one wins", testRace},
		{"a scan is in the order of the manifests' keys", testScan},
		{"a list is newest first", testList},
		{"pages show one state of the catalog", testPages},
		{"filters choose", testFilters},
		{"a page token belongs to its query", testPageToken},
		{"a request id leads to the newest save", testRequestID},
		{"one of fifty gets the lock", testLock},
		{"a store is remembered", testStore},
		{"changes come in order, also after a break", testChanges},
		{"who reads changes slowly misses none", testSlowFollower},
		{"changes can be left", testFollowerLeaves},
		{"changes after a revision that is still to come are refused", testFutureRevision},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// Record returns a record with every field set, whose creation is age before a fixed time.
func Record(name string, age time.Duration) *snapshot.Record {
	created := time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC).Add(-age)
	return &snapshot.Record{
		Snapshot: snapshot.Snapshot{
			Name: name, Cluster: "default", State: snapshot.StatePartial, Error: "disk full",
			Labels: map[string]string{"team": "a", "kind": "test"}, Pinned: true, Trigger: snapshot.TriggerScheduled,
			CreateTime: created, Duration: 1500 * time.Millisecond, Node: "node-1",
			EtcdVersion: "3.7.3", StorageVersion: "3.7.0", EtcdClusterID: "00000000000000cd", EtcdMemberID: "00000000000000ef",
			Revision: 42, TotalKeys: 7, DBSize: 1 << 40, SHA256: "aa", Hash: 1<<32 - 1,
			Compression: snapshot.CompressionZstd, StoredSize: 1 << 39, StoredSHA256: "bb",
			Locations: []snapshot.Location{
				{Backend: "local", Kind: snapshot.BackendLocal, URI: "file:///x", Size: 5, State: snapshot.StateReady, UpdateTime: created},
				{Backend: "s3", Kind: snapshot.BackendS3, URI: "s3://b/x", State: snapshot.StateFailed, Error: "gone", UpdateTime: created},
			},
			Verification: &snapshot.Verification{
				Level: snapshot.LevelDrill, Error: "damaged", Time: created, Duration: time.Second, Backends: []string{"local"}, HashKV: 1<<32 - 1, Live: "the same", StoredOnly: true,
			},
		},
		RequestID: "request/of " + name,
		Owner:     "node-1/owner",
		Failures:  []snapshot.Failure{{Backend: "s3", Reason: snapshot.ReasonBackendUnavailable, Message: "gone"}},
		Repairs:   []snapshot.Repair{{Backend: "s3", Attempts: 3, Next: time.Unix(1700000000, 5).UTC(), Error: "still gone"}},
		Damaged:   []string{"local"},
		File:      "x.zip",
		Seen:      map[string]time.Time{"local": created},
		Proven:    created,
		KeptOn:    "node-1",
	}
}

func mustCreate(t *testing.T, c snapshot.Catalog, recs ...*snapshot.Record) {
	t.Helper()
	for _, r := range recs {
		if err := c.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

func mustGet(t *testing.T, c snapshot.Catalog, name string) *snapshot.Record {
	t.Helper()
	r, err := c.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error %v, want %v", got, want)
	}
}

func same(t *testing.T, got, want *snapshot.Record) {
	t.Helper()
	if g, w := shown(got), shown(want); g != w {
		t.Fatalf("record\n%s\nwant\n%s", g, w)
	}
}

// shown is all of a record.
func shown(r *snapshot.Record) string {
	flat := *r
	var v snapshot.Verification
	if r.Verification != nil {
		v, flat.Verification = *r.Verification, nil
	}
	return fmt.Sprintf("%+v %+v", flat, v)
}

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

// list returns the names on all pages.
func list(t *testing.T, c snapshot.Catalog, q snapshot.Query) (names []string) {
	t.Helper()
	for {
		p, err := c.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Records) > q.PageSize || len(p.Records) == 0 && q.PageToken != "" {
			t.Fatalf("a page has %d records of %d", len(p.Records), q.PageSize)
		}
		for _, r := range p.Records {
			names = append(names, r.Name)
		}
		if p.NextPageToken == "" {
			return names
		}
		q.PageToken = p.NextPageToken
	}
}

func testList(t *testing.T, c snapshot.Catalog) {
	if got := list(t, c, snapshot.Query{PageSize: 10}); len(got) > 0 {
		t.Errorf("an empty catalog lists %q", got)
	}
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("s%d", (i*3)%7)
		want = append(want, name)
		mustCreate(t, c, Record(name, time.Duration(i)*time.Nanosecond))
	}
	for _, size := range []int{1, 3, 6, 7, 8, 1000} {
		if got := list(t, c, snapshot.Query{PageSize: size}); !slices.Equal(got, want) {
			t.Errorf("pages of %d list %q, want %q", size, got, want)
		}
	}
	p, err := c.List(t.Context(), snapshot.Query{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	same(t, p.Records[0], mustGet(t, c, want[0]))
}

func testPages(t *testing.T, c snapshot.Catalog) {
	var want []string
	var recs []*snapshot.Record
	for i := range 6 {
		r := Record(fmt.Sprintf("s%d", i), time.Duration(i)*time.Hour)
		mustCreate(t, c, r)
		recs, want = append(recs, r), append(want, r.Name)
	}
	q := snapshot.Query{PageSize: 2}
	first, err := c.List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), recs[4]); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, Record("new", -time.Hour), Record("old", 150*time.Minute))
	got := []string{first.Records[0].Name, first.Records[1].Name}
	q.PageToken = first.NextPageToken
	got = append(got, list(t, c, q)...)
	if !slices.Equal(got, want) {
		t.Errorf("pages show %q, want %q", got, want)
	}
	if got, want := list(t, c, snapshot.Query{PageSize: 2}), []string{"new", "s0", "s1", "s2", "old", "s3", "s5"}; !slices.Equal(got, want) {
		t.Errorf("a new listing shows %q, want %q", got, want)
	}
}

func testFilters(t *testing.T, c snapshot.Catalog) {
	at := func(hours int) time.Time { return Record("", time.Duration(hours)*time.Hour).CreateTime }
	for i := range 10 {
		r := Record(fmt.Sprintf("s%d", i), time.Duration(i)*time.Hour)
		if i%2 == 0 {
			r.State = snapshot.StateReady
		}
		if i%3 == 0 {
			r.Labels = map[string]string{"team": "b", "empty": ""}
		}
		if i%5 == 0 {
			r.Locations = r.Locations[:1]
		}
		mustCreate(t, c, r)
	}
	for _, test := range []struct {
		what string
		q    snapshot.Query
		want []string
	}{
		{"state", snapshot.Query{States: []snapshot.State{snapshot.StateReady}}, []string{"s0", "s2", "s4", "s6", "s8"}},
		{"states", snapshot.Query{States: []snapshot.State{snapshot.StateSaving, snapshot.StatePartial}}, []string{"s1", "s3", "s5", "s7", "s9"}},
		{"backend", snapshot.Query{Backend: "s3"}, []string{"s1", "s2", "s3", "s4", "s6", "s7", "s8", "s9"}},
		{"no such backend", snapshot.Query{Backend: "tape"}, nil},
		{"label", snapshot.Query{Labels: map[string]string{"team": "b"}}, []string{"s0", "s3", "s6", "s9"}},
		{"labels", snapshot.Query{Labels: map[string]string{"team": "b", "kind": "test"}}, nil},
		{"empty label is not an absent one", snapshot.Query{Labels: map[string]string{"kind": ""}}, nil},
		{"from, inclusive", snapshot.Query{From: at(2)}, []string{"s0", "s1", "s2"}},
		{"until, exclusive", snapshot.Query{Until: at(7)}, []string{"s8", "s9"}},
		{"from and until", snapshot.Query{From: at(5), Until: at(3)}, []string{"s4", "s5"}},
		{"between two nanoseconds", snapshot.Query{From: at(5).Add(1), Until: at(4)}, nil},
		{"until before from", snapshot.Query{From: at(3), Until: at(5)}, nil},
		{"long ago", snapshot.Query{Until: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)}, nil},
		{"far ahead", snapshot.Query{From: time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)}, nil},
		{"all at once", snapshot.Query{From: at(8), Until: at(0), Backend: "local", States: []snapshot.State{snapshot.StateReady}, Labels: map[string]string{"team": "a"}}, []string{"s2", "s4", "s8"}},
	} {
		for _, size := range []int{1, 2, 100} {
			test.q.PageSize = size
			if got := list(t, c, test.q); !slices.Equal(got, test.want) {
				t.Errorf("%s, pages of %d: %q, want %q", test.what, size, got, test.want)
			}
		}
	}
}

func testPageToken(t *testing.T, c snapshot.Catalog) {
	for i := range 3 {
		mustCreate(t, c, Record(fmt.Sprint("s", i), time.Duration(i)*time.Hour))
	}
	q := snapshot.Query{PageSize: 1, Backend: "s3"}
	p, err := c.List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for what, q := range map[string]snapshot.Query{
		"rubbish":       {PageSize: 1, Backend: "s3", PageToken: "rubbish"},
		"not base64":    {PageSize: 1, Backend: "s3", PageToken: "!"},
		"another query": {PageSize: 1, Backend: "local", PageToken: p.NextPageToken},
	} {
		_, err := c.List(t.Context(), q)
		if e, ok := errors.AsType[*snapshot.Error](err); !ok || e.Reason != snapshot.ReasonInvalidArgument || e.Field != "page_token" {
			t.Errorf("%s: %v, want an invalid page_token", what, err)
		}
	}
	for _, size := range []int{0, -1, 1001} {
		if _, err := c.List(t.Context(), snapshot.Query{PageSize: size}); snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
			t.Errorf("page size %d: %v", size, err)
		}
	}
}

func testRequestID(t *testing.T, c snapshot.Catalog) {
	_, err := c.ByRequestID(t.Context(), "id")
	wantErr(t, err, snapshot.ErrNotFound)
	first, second := Record("first", time.Hour), Record("second", 0)
	first.RequestID, second.RequestID = "id/..\x01 ü", "id/..\x01 ü"
	first.State, second.State = snapshot.StateSaving, snapshot.StateSaving
	lead := func(want *snapshot.Record) {
		t.Helper()
		got, err := c.ByRequestID(t.Context(), first.RequestID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
	first.Owner, second.Owner = "", ""
	mustBegin := func(r, old *snapshot.Record) {
		t.Helper()
		if err := c.Begin(t.Context(), r, old); err != nil {
			t.Fatal(err)
		}
	}
	mustBegin(first, nil)
	lead(first)
	wantErr(t, c.Begin(t.Context(), second, nil), snapshot.ErrConflict) // it has been begun
	old := first.Clone()
	if err := c.Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Begin(t.Context(), second, old), snapshot.ErrConflict) // it has changed
	lead(first)
	old = first.Clone()
	old.SupersededBy = "second"
	mustBegin(second, old)
	lead(second)
	wantErr(t, c.Update(t.Context(), first), snapshot.ErrConflict) // who is still at work on it finds out
	first = mustGet(t, c, "first")
	if first.SupersededBy != "second" {
		t.Errorf("superseded by %q", first.SupersededBy)
	}
	namesake := Record("second", 0)
	namesake.RequestID, namesake.Owner = "", ""
	wantErr(t, c.Begin(t.Context(), namesake, nil), snapshot.ErrExists)
	first.Error = "changed" // the older one is changed, and the newer one still stands for the request
	if err := c.Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	lead(second)
	if err := c.Remove(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	lead(second)
	found := Record("found", 2*time.Hour) // not a save that begins: one that reconcile found on a backend
	found.RequestID = second.RequestID
	mustCreate(t, c, found)
	lead(second)
	if err := c.Remove(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	second.State = snapshot.StatePartial
	mustCreate(t, c, second)
	lead(second)
	second.RequestID = ""
	if err := c.Update(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	_, err = c.ByRequestID(t.Context(), first.RequestID)
	wantErr(t, err, snapshot.ErrNotFound)
}

func testLock(t *testing.T, c snapshot.Catalog) {
	const takers = 50
	locks := make([]snapshot.Lock, takers)
	errs := make([]error, takers)
	var wg sync.WaitGroup
	for i := range takers {
		wg.Go(func() { locks[i], errs[i] = c.Lock(t.Context(), fmt.Sprint("taker ", i)) })
	}
	wg.Wait()
	winner := slices.IndexFunc(errs, func(err error) bool { return err == nil })
	if winner < 0 {
		t.Fatal("nobody got the lock")
	}
	for i, err := range errs {
		if i != winner && !errors.Is(err, snapshot.ErrLocked) {
			t.Errorf("taker %d beside %d: %v, want ErrLocked", i, winner, err)
		}
	}
	owner := func(want string) {
		t.Helper()
		if got, err := c.LockOwner(t.Context()); err != nil || got != want {
			t.Errorf("the lock's owner is %q, %v, want %q", got, err, want)
		}
	}
	owner(fmt.Sprint("taker ", winner))
	select {
	case <-locks[winner].Lost():
		t.Error("the lock is lost at once")
	default:
	}
	locks[winner].Unlock(t.Context())
	locks[winner].Unlock(t.Context()) // once more does no harm
	owner("")
	again, err := c.Lock(t.Context(), "again")
	if err != nil {
		t.Fatal(err)
	}
	locks[winner].Unlock(t.Context()) // nor does it take the next one's lock away
	owner("again")
	r := Record("begun", 0)
	r.State, r.Owner = snapshot.StateSaving, "again"
	if err := c.Begin(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	again.Unlock(t.Context())
	owner("")
	r = Record("late", 0)
	r.RequestID, r.Owner = "", "again"
	wantErr(t, c.Begin(t.Context(), r, nil), snapshot.ErrLocked)
}

func testStore(t *testing.T, c snapshot.Catalog) {
	ctx := t.Context()
	_, err := c.Store(ctx, "local")
	wantErr(t, err, snapshot.ErrNotFound)
	wantErr(t, c.PutStore(ctx, "local", snapshot.Store{ID: "x", Version: 7}), snapshot.ErrConflict)
	if err := c.PutStore(ctx, "local", snapshot.Store{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.PutStore(ctx, "local", snapshot.Store{ID: "y"}), snapshot.ErrConflict)
	s, err := c.Store(ctx, "local")
	if err != nil || s.ID != "x" || s.Initialized || s.Version == 0 {
		t.Fatalf("store %+v, %v", s, err)
	}
	old := s
	s.Initialized = true
	if err := c.PutStore(ctx, "local", s); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.PutStore(ctx, "local", old), snapshot.ErrConflict)
	s, err = c.Store(ctx, "local")
	if err != nil || s.ID != "x" || !s.Initialized || s.Version == old.Version {
		t.Fatalf("store %+v, %v", s, err)
	}
	_, err = c.Store(ctx, "s3")
	wantErr(t, err, snapshot.ErrNotFound)
}
