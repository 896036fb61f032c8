package journal_test

import (
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// fill stores segments of ten revisions each.
func fill(t *testing.T, p *place, timeline segment.Timeline, first, last int64) {
	t.Helper()
	h := segment.Header{Timeline: timeline, Level: segment.Level10s}
	for r := first; r <= last; {
		b, err := segment.NewBuilder(h)
		must(t, err)
		for end := r + 9; r <= end; r++ {
			must(t, b.Add(segment.Revision{
				Main: r, Time: timeline.Start().Add(time.Duration(r) * time.Second), Records: []segment.Record{{Value: []byte("v")}},
			}))
		}
		s, err := b.Seal()
		must(t, err)
		must(t, p.segments().Put(t.Context(), s))
		h.Previous, h.PreviousChain = s.Header.Last, s.Header.Chain
	}
}

func TestPruneLeavesAllThatARestoreInTheWindowNeeds(t *testing.T) {
	began := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	old, now := segment.NewTimeline(1, began), segment.NewTimeline(1, began.Add(time.Hour))
	after := func(minutes int) time.Time { return began.Add(time.Duration(minutes) * time.Minute) }
	bases := []journal.Snapshot{ // newest first, as a catalog lists them
		{Revision: 95, Created: after(100)}, {Revision: 55, Created: after(80)}, {Revision: 29, Created: after(65)},
		{Revision: 38, Created: after(30)},
	}
	for name, c := range map[string]struct {
		oldest time.Time
		bases  []journal.Snapshot
		first  map[segment.Timeline]int64 // of what stays
	}{
		"before all snapshots":                {after(20), bases, map[segment.Timeline]int64{old: 1, now: 1}},
		"within the old timeline":             {after(40), bases, map[segment.Timeline]int64{old: 31, now: 1}},
		"at the end of the old timeline":      {after(60), bases, map[segment.Timeline]int64{now: 1}},
		"after a snapshot within a segment":   {after(70), bases, map[segment.Timeline]int64{now: 21}},
		"after a snapshot":                    {after(90), bases, map[segment.Timeline]int64{now: 51}},
		"after all, with one snapshot":        {after(900), bases[1:2], map[segment.Timeline]int64{now: 51}},
		"after all, without a snapshot":       {after(900), nil, map[segment.Timeline]int64{now: 1}},
		"after all, with one of another time": {after(900), bases[3:], map[segment.Timeline]int64{now: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace("s3")
			fill(t, p, old, 1, 50)
			fill(t, p, now, 1, 100)
			if _, err := journal.Prune(t.Context(), p.segments(), c.bases, c.oldest); err != nil {
				t.Fatal(err)
			}
			w := look(t, p)
			if len(w.Timelines) != len(c.first) {
				t.Fatalf("there are %+v, want %v", w.Timelines, c.first)
			}
			for _, held := range w.Timelines {
				if len(held.Ranges) != 1 || held.Ranges[0].First != c.first[held.Name] {
					t.Errorf("there is %+v, want it from %d on", held, c.first[held.Name])
				}
			}
		})
	}
}
