package journal

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
)

// A Listing shows the journal on one backend. [segments.Segments] is one. Every shows names alone: to
// read the manifests of all segments, tens of thousands maybe, would take minutes.
type Listing interface {
	Name() string
	// Every yields the segments of all timelines. An error is the last element.
	Every(ctx context.Context) iter.Seq2[segments.Item, error]
	// Manifest reads the manifest of a segment.
	Manifest(ctx context.Context, r segments.Ref) (*segments.Manifest, error)
}

var _ Listing = (*segments.Segments)(nil)

// Window is the journal on all backends.
type Window struct {
	Timelines []Held  // the oldest first
	Unread    []error // backends and manifests that could not be read
	Partial   bool    // a backend was not listed to its end: it may have what the others lack

	On map[string][]segments.Ref // what was listed, by backend
}

// Held is a timeline on all backends together. No single one may have all of it: a restore takes each segment from
// where it is.
type Held struct {
	Name   segment.Timeline
	Reason string // why the one before could not be continued; empty for the first one
	Ranges []Range
}

// Range is consecutive revisions. The times are zero where they are not known.
type Range struct {
	First, Last         int64
	FirstTime, LastTime time.Time // of their arrival
	Complete            time.Time // the last one was the newest of the cluster until then
	Reason              string    // why the revisions before it are missing
}

// span is a segment on a backend.
type span struct {
	segments.Ref
	listing Listing
}

// Look lists the journal on the backends. It reads the manifests at the ends of ranges alone.
func Look(ctx context.Context, listings []Listing) Window {
	w := Window{On: map[string][]segments.Ref{}}
	spans := map[segment.Timeline][]span{}
	for _, s := range listings {
		for item, err := range s.Every(ctx) {
			if err != nil {
				w.Unread, w.Partial = append(w.Unread, fmt.Errorf("list the journal on backend %s: %w", s.Name(), err)), true
				break
			}
			spans[item.Timeline] = append(spans[item.Timeline], span{item.Ref, s})
			w.On[s.Name()] = append(w.On[s.Name()], item.Ref)
		}
	}
	for t, all := range spans {
		held := Held{Name: t}
		slices.SortFunc(all,
			func(a, b span) int { return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(b.Last, a.Last)) })
		for len(all) > 0 {
			n, newest := reach(all)
			held.Ranges = append(held.Ranges, w.describe(ctx, all[0], newest))
			all = all[n:]
		}
		// Before the first range there is no gap in this timeline: the reason is why it began.
		held.Reason, held.Ranges[0].Reason = held.Ranges[0].Reason, ""
		w.Timelines = append(w.Timelines, held)
	}
	slices.SortFunc(w.Timelines, func(a, b Held) int { return a.Name.Compare(b.Name) })
	return w
}

// reach returns how many of the spans, the first, have no gap between them, and that with the highest revision.
func reach(all []span) (n int, newest span) {
	newest = all[0]
	for n = 1; n < len(all) && all[n].First <= newest.Last+1; n++ {
		if all[n].Last > newest.Last {
			newest = all[n]
		}
	}
	return n, newest
}

// describe returns the range from the beginning of one segment to the end of another one.
func (w *Window) describe(ctx context.Context, from, to span) Range {
	r := Range{First: from.First, Last: to.Last}
	// One manifest that cannot be read leaves times open, and not the range: names alone say which revisions there are.
	if m, err := from.listing.Manifest(ctx, from.Ref); err != nil {
		w.Unread = append(w.Unread, err)
	} else {
		r.FirstTime, r.Reason = m.FirstTime, m.Reason
	}
	if m, err := to.listing.Manifest(ctx, to.Ref); err != nil {
		w.Unread = append(w.Unread, err)
	} else {
		r.LastTime = m.LastTime
		if m.CompleteRevision == m.Last && m.CompleteTime != nil {
			r.Complete = *m.CompleteTime
		}
	}
	return r
}
