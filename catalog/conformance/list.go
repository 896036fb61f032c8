package conformance

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// list returns the names on all pages.
func list(t *testing.T, c Catalog, q snapshot.Query) (names []string) {
	t.Helper()
	for {
		p, err := c.History.List(t.Context(), q)
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

func testList(t *testing.T, c Catalog) {
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
	p, err := c.History.List(t.Context(), snapshot.Query{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	same(t, p.Records[0], mustGet(t, c, want[0]))
}

func testPages(t *testing.T, c Catalog) {
	var want []string
	var recs []*snapshot.Record
	for i := range 6 {
		r := Record(fmt.Sprintf("s%d", i), time.Duration(i)*time.Hour)
		mustCreate(t, c, r)
		recs, want = append(recs, r), append(want, r.Name)
	}
	q := snapshot.Query{PageSize: 2}
	first, err := c.History.List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Records.Remove(t.Context(), recs[4]); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, Record("new", -time.Hour), Record("old", 150*time.Minute))
	got := []string{first.Records[0].Name, first.Records[1].Name}
	q.PageToken = first.NextPageToken
	got = append(got, list(t, c, q)...)
	if !slices.Equal(got, want) {
		t.Errorf("pages show %q, want %q", got, want)
	}
	want = []string{"new", "s0", "s1", "s2", "old", "s3", "s5"}
	if got := list(t, c, snapshot.Query{PageSize: 2}); !slices.Equal(got, want) {
		t.Errorf("a new listing shows %q, want %q", got, want)
	}
}

func testFilters(t *testing.T, c Catalog) {
	at := func(hours int) time.Time { return Record("", time.Duration(hours)*time.Hour).CreateTime }
	for i := range 10 {
		r := Record(fmt.Sprintf("s%d", i), time.Duration(i)*time.Hour)
		if i%2 == 0 {
			r.Written("s3", nil, r.CreateTime) // READY
		}
		if i%3 == 0 {
			r.Labels = map[string]string{"team": "b", "empty": ""}
		}
		if i%5 == 0 {
			r.DropBackend("s3") // READY as well
		}
		mustCreate(t, c, r)
	}
	for _, test := range []struct {
		what string
		q    snapshot.Query
		want []string
	}{
		{"state", snapshot.Query{States: []snapshot.State{snapshot.StateReady}},
			[]string{"s0", "s2", "s4", "s5", "s6", "s8"}},
		{"states", snapshot.Query{States: []snapshot.State{snapshot.StateSaving, snapshot.StatePartial}},
			[]string{"s1", "s3", "s7", "s9"}},
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
		{"all at once", snapshot.Query{
			From: at(8), Until: at(0), Backend: "local",
			States: []snapshot.State{snapshot.StateReady}, Labels: map[string]string{"team": "a"},
		}, []string{"s2", "s4", "s5", "s8"}},
	} {
		for _, size := range []int{1, 2, 100} {
			test.q.PageSize = size
			if got := list(t, c, test.q); !slices.Equal(got, test.want) {
				t.Errorf("%s, pages of %d: %q, want %q", test.what, size, got, test.want)
			}
		}
	}
}

func testPageToken(t *testing.T, c Catalog) {
	for i := range 3 {
		mustCreate(t, c, Record(fmt.Sprint("s", i), time.Duration(i)*time.Hour))
	}
	q := snapshot.Query{PageSize: 1, Backend: "s3"}
	p, err := c.History.List(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for what, q := range map[string]snapshot.Query{
		"rubbish":       {PageSize: 1, Backend: "s3", PageToken: "rubbish"},
		"not base64":    {PageSize: 1, Backend: "s3", PageToken: "!"},
		"another query": {PageSize: 1, Backend: "local", PageToken: p.NextPageToken},
	} {
		_, err := c.History.List(t.Context(), q)
		e, ok := errors.AsType[*snapshot.Error](err)
		if !ok || e.Reason != snapshot.ReasonInvalidArgument || e.Field != "page_token" {
			t.Errorf("%s: %v, want an invalid page_token", what, err)
		}
	}
	for _, size := range []int{0, -1, 1001} {
		_, err := c.History.List(t.Context(), snapshot.Query{PageSize: size})
		if snapshot.ReasonOf(err) != snapshot.ReasonInvalidArgument {
			t.Errorf("page size %d: %v", size, err)
		}
	}
}

func testPageTokenExpires(t *testing.T, c Catalog) {
	for i := range 3 {
		mustCreate(t, c, Record(fmt.Sprint("s", i), time.Duration(i)*time.Hour))
	}
	p, err := c.History.List(t.Context(), snapshot.Query{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	mustCreate(t, c, Record("later", 0))
	c.Compact()
	_, err = c.History.List(t.Context(), snapshot.Query{PageSize: 1, PageToken: p.NextPageToken})
	if snapshot.ReasonOf(err) != snapshot.ReasonPageTokenExpired {
		t.Errorf("after a compaction: %v, want PAGE_TOKEN_EXPIRED", err)
	}
	if got := list(t, c, snapshot.Query{PageSize: 3}); len(got) != 4 {
		t.Errorf("a new listing shows %q", got)
	}
}
