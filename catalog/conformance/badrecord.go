package conformance

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// wantBad checks that an error is of the record with this name.
func wantBad(t *testing.T, err error, name string) {
	t.Helper()
	bad, ok := errors.AsType[*snapshot.BadRecord](err)
	if !ok || !errors.Is(err, snapshot.ErrBadRecord) || bad.Name != name || bad.Key == "" {
		t.Fatalf("error %v (%+v), want that of the record %q", err, bad, name)
	}
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Reason != snapshot.ReasonCatalogUnavailable || e.Retry != 0 || e.Hint == "" {
		t.Errorf("error %#v, want one that no retry helps against, and a way out", e)
	}
}

func testBadRecord(t *testing.T, c Catalog) {
	r := Record("a", 0)
	mustCreate(t, c, r, Record("b", time.Hour))
	c.Spoil("a")
	c.Spoil("was never there")
	for range 2 {
		_, err := c.Records.Get(t.Context(), "a")
		wantBad(t, err, "a")
		wantErr(t, c.Records.Create(t.Context(), Record("a", 0)), snapshot.ErrExists)
		wantErr(t, c.Saves.Begin(t.Context(), saving("a", 0, "other", ""), nil), snapshot.ErrExists)
		if err := c.Records.Update(t.Context(), r.Copy()); err == nil {
			t.Error("it was updated")
		}
		if err := c.Records.Remove(t.Context(), r.Copy()); err == nil {
			t.Error("it was removed")
		}
	}
	mustGet(t, c, "b")
	c.Wipe("a")
	_, err := c.Records.Get(t.Context(), "a")
	wantErr(t, err, snapshot.ErrNotFound)
	again := Record("a", 0)
	mustCreate(t, c, again)
	same(t, mustGet(t, c, "a"), again)
}

func testScanBeside(t *testing.T, c Catalog) {
	mustCreate(t, c, Record("a", 0), Record("b", 0), Record("b-1", 0), Record("c", 0))
	c.Spoil("b")
	c.Spoil("a-1")
	c.Spoil("z")
	var got []string
	for r, err := range c.Records.Scan(t.Context()) {
		if err != nil {
			name, _ := snapshot.BadRecordName(err)
			wantBad(t, err, name)
			got = append(got, "bad "+name)
			continue
		}
		got = append(got, r.Name)
	}
	if want := []string{"bad a-1", "a", "b-1", "bad b", "c", "bad z"}; !slices.Equal(got, want) {
		t.Errorf("the scan yields %q, want %q", got, want)
	}
	for _, err := range c.Records.Scan(t.Context()) {
		if err != nil {
			break // it can be left there
		}
	}
}

func testListBeside(t *testing.T, c Catalog) {
	for i := range 7 {
		mustCreate(t, c, Record(fmt.Sprint("s", i), time.Duration(i)*time.Hour))
	}
	for _, name := range []string{"s0", "s3", "s6"} {
		c.Spoil(name)
	}
	want := []string{"s1", "s2", "s4", "s5"}
	for _, size := range []int{1, 2, 4, 100} {
		if got := list(t, c, snapshot.Query{PageSize: size}); !slices.Equal(got, want) {
			t.Errorf("pages of %d list %q, want %q", size, got, want)
		}
	}
	p, err := c.History.List(t.Context(), snapshot.Query{PageSize: 100, Labels: map[string]string{"team": "a"}})
	if err != nil || len(p.Records) != 4 || len(p.Unreadable) != 3 {
		t.Fatalf("a page of %d records and %v, %v", len(p.Records), p.Unreadable, err)
	}
	for _, err := range p.Unreadable {
		name, _ := snapshot.BadRecordName(err)
		wantBad(t, err, name)
	}
}

func testChangesBeside(t *testing.T, c Catalog) {
	r := Record("a", 0)
	r.Node = "1"
	mustCreate(t, c, r)
	f := follow(t, c, 0)
	f.position()
	c.Spoil("a")
	c.Spoil("never")
	c.Wipe("a")
	b := Record("b", 0)
	b.Node = "1"
	mustCreate(t, c, b)
	r.Node = "2"
	mustCreate(t, c, r)
	f.want("->b1", "->a2")
}

func testRequestOfBadRecord(t *testing.T, c Catalog) {
	const id = "id"
	first := saving("first", time.Hour, id, "")
	if err := c.Saves.Begin(t.Context(), first, nil); err != nil {
		t.Fatal(err)
	}
	c.Spoil("first")
	_, err := c.Saves.ByRequestID(t.Context(), id)
	wantErr(t, err, snapshot.ErrNotFound)
	if err := c.Saves.Begin(t.Context(), saving("late", 0, "", ""), first.SupersedeBy("late")); err == nil {
		t.Error("the record that cannot be read was superseded")
	}
	second := saving("second", 0, id, "")
	if err := c.Saves.Begin(t.Context(), second, nil); err != nil {
		t.Fatal(err)
	}
	got, err := c.Saves.ByRequestID(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, second)
}
