package plan

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
)

// Moment is all that a timeline proves of the revision that a cluster had at a time.
type Moment struct {
	Time     time.Time
	Timeline *Timeline
	Revision int64     // the newest that is proven to have been committed then or before
	Arrived  time.Time // when Revision arrived

	// Upper is the highest revision that the cluster can have had at the time: a linearizable read that began then or
	// later showed it. 0 when the journal ends before it proves anything.
	Upper    int64
	Complete time.Time // of that read, or, when Upper is 0, the last time up to which the journal is complete; may be zero
	Gap      *Gap      // revisions that are lost, right behind Revision; nil when there are none
}

// errEarly: the timeline begins after the time.
var errEarly = errors.New("the journal begins later")

// Moment looks for the revision at a time, in the timeline that was the current one then. It returns nil when nothing
// was journaled yet. Between the second in a timeline's name and its first revision, the timeline before it is the
// current one. Few segments are read, one at a time, into dir. skipped has the copies that could not be read, and a
// [Lost] for each segment without a copy that could: the cluster may have had its revisions.
func (j *Journal) Moment(ctx context.Context, at time.Time, dir string) (m *Moment, skipped []error, err error) {
	for _, t := range slices.Backward(j.Timelines) {
		if t.Name.Start().After(at) {
			continue
		}
		s := search{timeline: t, dir: dir, dropped: map[*span]bool{}}
		m, err = s.moment(ctx, at)
		if skipped = append(skipped, s.skipped...); m != nil || err != nil {
			return m, skipped, err
		}
	}
	return nil, skipped, nil
}

// Holding returns the timelines that may hold a revision: it is between their first and last ones.
func (j *Journal) Holding(revision int64) []*Timeline {
	var all []*Timeline
	for _, t := range j.Timelines {
		if t.First() <= revision && revision <= t.Last() {
			all = append(all, t)
		}
	}
	return all
}

// search looks for a time in the segments that are not dropped.
type search struct {
	timeline *Timeline
	dir      string
	dropped  map[*span]bool
	skipped  []error
}

// moment looks for the revision at a time; nil when the timeline has none so early.
func (s *search) moment(ctx context.Context, at time.Time) (*Moment, error) {
	for {
		m, err := s.run(ctx, at)
		if failed := (*unreadable)(nil); errors.As(err, &failed) {
			s.dropped[failed.span] = true // others may hold its revisions
			s.skipped = append(s.skipped, &Lost{
				Gap: Gap{First: failed.first, Last: failed.last}, Timeline: s.timeline.Name, Causes: failed.causes,
			})
			continue
		}
		if errors.Is(err, errEarly) {
			return nil, nil //nolint:nilnil // nothing is known of that time
		}
		return m, err
	}
}

// unreadable is the error that no copy of a span could be read.
type unreadable struct {
	*span
	causes []error
}

// Error implements error.
func (*unreadable) Error() string { return "no copy of a segment could be read" }

// line returns the fewest spans that hold all revisions which are held, in their order.
func (s *search) line() []*span {
	var spans, line []*span
	for _, x := range s.timeline.spans {
		if !s.dropped[x] {
			spans = append(spans, x)
		}
	}
	// Spans may lie over one another. A search by halves needs a row in which times go up.
	c := cursor{spans: spans}
	for pos := int64(0); ; {
		x := c.best(pos)
		switch {
		case x != nil:
			line, pos = append(line, x), x.last
		case c.next < len(spans):
			pos = c.resumes() - 1
		default:
			return line
		}
	}
}

// run looks by halves for the segment in which the time lies, and reads that one, and up to two behind it.
func (s *search) run(ctx context.Context, at time.Time) (*Moment, error) {
	line := s.line()
	low, high := 0, len(line) // the first that begins after the time is in [low, high]
	for low < high {
		mid := (low + high) / 2
		later := false
		// Manifests are enough for the search: a few of them for years of segments.
		err := s.each(ctx, line[mid], func(_ segmentCopy, m *segments.Manifest) error {
			later = m.FirstTime.After(at)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if later {
			high = mid
		} else {
			low = mid + 1
		}
	}
	if low == 0 {
		return nil, errEarly
	}
	m := &Moment{Time: at, Timeline: s.timeline}
	if err := s.find(ctx, line[low-1], m); err != nil {
		return nil, err
	}
	// Only at the end of a segment can revisions be missing behind it: within one there is no hole.
	if m.Revision == line[low-1].last {
		m.Gap = s.gap(m.Revision, line[low:])
	}
	// The proof that a revision was complete at the time may be in the next segment.
	for i := low; m.Upper == 0 && m.Gap == nil && i < min(low+2, len(line)); i++ {
		if err := s.find(ctx, line[i], m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// gap returns the revisions right behind one that are lost before the next spans, or at the end of the journal, where
// all that should have them were dropped; nil when none are.
func (s *search) gap(revision int64, next []*span) *Gap {
	end := revision
	if len(next) > 0 {
		end = next[0].first - 1
	} else {
		for x := range s.dropped {
			end = max(end, x.last)
		}
	}
	if end <= revision {
		return nil
	}
	return &Gap{First: revision + 1, Last: end}
}

// find reads a segment, and notes its proofs in the moment.
func (s *search) find(ctx context.Context, x *span, m *Moment) error {
	return s.each(ctx, x, func(c segmentCopy, manifest *segments.Manifest) error {
		file, err := fetch(ctx, c.place, manifest, s.dir)
		if err != nil {
			return err
		}
		defer func() { _ = os.Remove(file) }()
		// A copy: a segment that turns out to be damaged at its end has proven nothing.
		found := *m
		if err := read(c.place, manifest, file, found.take); err != nil {
			return err
		}
		*m = found
		return nil
	})
}

// take notes the proofs in an entry. Entries come in the order of the journal.
func (m *Moment) take(e segment.Entry) error {
	switch e := e.(type) {
	case segment.Revision:
		// Clocks can be set back: a revision counts when all before it do.
		if !e.Time.After(m.Time) && (m.Revision == 0 || e.Main == m.Revision+1) {
			m.Revision, m.Arrived = e.Main, e.Time
			if m.Upper < m.Revision { // of a clock that was set back since
				m.Upper = 0
			}
		}
	case segment.Watermark:
		if m.Upper == 0 {
			m.Complete = e.Time
		}
		if m.Upper == 0 && !e.Time.Before(m.Time) {
			m.Upper = max(e.Revision, m.Revision)
		}
	}
	return nil
}

// each tries the copies of a span until one is good. When none is, the error is an [unreadable].
func (s *search) each(ctx context.Context, x *span, try func(segmentCopy, *segments.Manifest) error) error {
	var causes []error
	for _, c := range x.copies {
		m, err := c.place.Manifest(ctx, c.Ref)
		if err == nil {
			err = try(c, m)
		}
		use := errUse{}
		switch {
		case err == nil:
			s.skipped = append(s.skipped, causes...)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &use):
			return err
		}
		causes = append(causes, err)
	}
	return &unreadable{x, causes}
}
