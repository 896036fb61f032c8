package journal_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/repository/segments"
)

// The window is made of the listings and of the manifests at the ends of ranges. What is missing there is a gap, with its
// bounds, what cannot be believed is named with its revisions, and neither hides anything else.
func TestTheWindowNamesWhatIsLost(t *testing.T) {
	t.Parallel()
	base := func(first, last int64) string {
		return "prod/journal/" + string(left) + "/10s/" + segment.Name(first, last)
	}
	foreign := func(t *testing.T, p *place) { // by the service of another cluster with the same prefix
		other := newPlace("other")
		repo := repository.New(repository.Config{Backend: other, Cluster: "stage", Prefix: "prod/"})
		b, err := segment.NewBuilder(segment.Header{Timeline: left, Level: segment.Level10s, Previous: 30})
		must(t, err)
		for r := int64(31); r <= 40; r++ {
			must(t, b.Add(segment.Revision{Main: r, Time: time.UnixMilli(1_784_203_200_000), Records: []segment.Record{{Value: []byte("of another cluster")}}}))
		}
		seg, err := b.Seal()
		must(t, err)
		must(t, segments.New(segments.Config{Repository: repo}).Put(t.Context(), seg))
		for _, suffix := range []string{".seg", ".json"} {
			p.Backend.(*memory.Backend).Set(base(31, 40)+suffix, other.Backend.(*memory.Backend).Content(base(31, 40)+suffix))
		}
	}
	for name, tc := range map[string]struct {
		spoil  func(t *testing.T, p *place)
		ranges string
		unread string // part of the error; empty when there is none
	}{
		"nothing is wrong":                   {spoil: func(*testing.T, *place) {}, ranges: "1-40"},
		"data is missing":                    {spoil: func(_ *testing.T, p *place) { remove(p, base(11, 20)+".seg") }, ranges: "1-10 21-40"},
		"a manifest is missing":              {spoil: func(_ *testing.T, p *place) { remove(p, base(11, 20)+".json") }, ranges: "1-10 21-40"},
		"the last one is missing":            {spoil: func(_ *testing.T, p *place) { remove(p, base(31, 40)+".json") }, ranges: "1-30"},
		"the manifest at the end is cut":     {spoil: func(_ *testing.T, p *place) { set(p, base(31, 40)+".json", "{") }, ranges: "1-40", unread: "revisions 31 to 40"},
		"that at the beginning is another":   {spoil: swap(base(1, 10), base(11, 20)), ranges: "1-40", unread: "revisions 1 to 10"},
		"the last one is of another cluster": {spoil: foreign, ranges: "1-40", unread: "not trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, p := t.TempDir(), newPlace("one")
			leave(t, dir, 4)
			stop := runs(t, uploader(t, dir, []*place{p}))
			eventually(t, "all is stored", func() bool { return len(ends(t, p)) == 4 })
			stop()
			tc.spoil(t, p)
			w := journal.Look(t.Context(), []journal.Listing{p.segments()})
			var got []string
			revisions := int64(0)
			for _, r := range w.Timelines[0].Ranges {
				got = append(got, fmt.Sprintf("%d-%d", r.First, r.Last))
				revisions += r.Last - r.First + 1
			}
			if strings.Join(got, " ") != tc.ranges {
				t.Errorf("there are %q, want %s", got, tc.ranges)
			}
			if on := w.On["one"]; int64(len(on)) != revisions/10 {
				t.Errorf("on the backend are %v, want %d revisions in tens", on, revisions)
			}
			switch {
			case tc.unread == "" && len(w.Unread) > 0:
				t.Errorf("not read: %v", w.Unread)
			case tc.unread != "" && (len(w.Unread) != 1 || !strings.Contains(w.Unread[0].Error(), tc.unread)):
				t.Errorf("not read: %v, want %s", w.Unread, tc.unread)
			}
		})
	}
}

func remove(p *place, key string) { p.Backend.(*memory.Backend).Remove(key) }

func set(p *place, key, content string) { p.Backend.(*memory.Backend).Set(key, []byte(content)) }

func swap(to, from string) func(*testing.T, *place) {
	return func(_ *testing.T, p *place) {
		for _, suffix := range []string{".seg", ".json"} {
			set(p, to+suffix, string(p.Backend.(*memory.Backend).Content(from+suffix)))
		}
	}
}
