package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Target takes the changes. Its methods are called by one goroutine, with revisions in ascending order. An error ends
// the walk, unless it wraps [ErrDiffers]: then another copy of the segment may be of the same history.
type Target interface {
	// Holds returns an error that wraps [ErrDiffers] when the target has another history of a revision that it should
	// have.
	Holds(r segment.Revision) error
	// Add adds the next revision.
	Add(r segment.Revision) error
}

// ErrDiffers: the target is of another history than the journal.
var ErrDiffers = errors.New("the snapshot is of another history than the journal")

// errUse is an error of the target, for which no copy of a segment is to blame.
type errUse struct{ error }

// Unwrap returns the error.
func (e errUse) Unwrap() error { return e.error }

// Walk adds the revisions of a timeline to a target. It is used by one goroutine.
//
// Each step takes the segment that holds the next revision and reaches the furthest. If it begins at or before the
// revision that the target has, the target compares what both have (Target.Holds). If it begins right behind it, its
// manifest must not name another chain there (links).
type Walk struct {
	Timeline *Timeline
	After    int64  // the revision that the target has
	To       int64  // the revision that it is to have
	Dir      string // for one segment at a time, as it is stored
	Target   Target
	// Fact takes the entries without a revision of their own, of all segments that are read; in the order of the journal.
	Fact func(segment.Entry)
	// Cross lets the walk go over gaps. It is called with each gap before the first revision behind it is added. When it
	// is nil, the walk ends at the first gap.
	Cross  func(Gap) error
	Oldest int64 // the revision of the last compaction of the target: those before it cannot be compared

	Used    []segments.Ref // the segments that were used, in their order
	Bytes   int64          // of Used, as they are stored
	Skipped []error        // copies that were tried, and are damaged or cannot be read
	Crossed []Crossing     // the gaps that the walk went over, in their order

	cursor  cursor
	chain   *segment.Chain // after the revision chained; nil when it is not known
	chained int64          // After, unless that is in a gap or right before one
	arrived time.Time      // of the last revision that is known
	gap     *Crossing      // behind which the next segment is looked for; nil when there is none
	end     int64          // of the last segment that was used
}

// Run adds the revisions. Errors are a [Lost], one that wraps [ErrDiffers], one of the target, or that of the context.
func (w *Walk) Run(ctx context.Context) error {
	if err := w.compare(ctx); err != nil {
		return err
	}
	w.cursor = cursor{spans: w.Timeline.spans}
	for w.After < w.To {
		err := w.step(ctx, w.To)
		if lost := (*Lost)(nil); errors.As(err, &lost) && w.beginCrossing(lost) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare compares the target with the journal of its newest revision, if there is one: the next segment may begin
// right behind it, and show nothing. One copy that says the same is enough.
func (w *Walk) compare(ctx context.Context) error {
	err := w.compareAt(ctx, w.After)
	// A gap may have the revision of the target. What the target has of those before the gap shows its history as well.
	for revision := w.before(w.After); err == nil && w.chain == nil && w.Cross != nil && revision > w.Oldest; {
		err = w.compareAt(ctx, revision)
		revision = w.before(revision)
	}
	return err
}

// compareAt compares the target with the segments that have a revision.
func (w *Walk) compareAt(ctx context.Context, revision int64) error {
	var differs error
	for _, s := range w.Timeline.spans {
		if s.first > revision || s.last < revision {
			continue
		}
		for _, c := range s.copies {
			err := w.compareWith(ctx, c)
			switch {
			case err == nil:
				return nil
			case errors.Is(err, ErrDiffers):
				differs = err
			case !w.skips(ctx, err):
				return cmp.Or(context.Cause(ctx), err)
			}
			w.Skipped = append(w.Skipped, err)
		}
	}
	return differs
}

// compareWith compares the target with one segment.
func (w *Walk) compareWith(ctx context.Context, c segmentCopy) error {
	m, file, err := w.fetch(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	chain, chained, arrived := m.PreviousChain, m.Previous, time.Time{}
	var facts []segment.Entry // the last ones of the target's revision may be in this segment
	last := int64(0)
	err = read(c.place, m, file, func(e segment.Entry) error {
		switch r, ok := e.(segment.Revision); {
		case ok && r.Main <= w.After:
			chain, chained, arrived = chain.Next(r), r.Main, r.Time
			facts, last = facts[:0], r.Main
		case ok:
			last = r.Main
		case last == w.After:
			facts = append(facts, e)
		}
		return w.check(e)
	})
	if err != nil {
		return err
	}
	w.chain, w.chained, w.arrived = &chain, chained, arrived
	for _, e := range facts {
		w.Fact(e)
	}
	return nil
}

// skips reports whether an error is one of a copy, so that another one may be good.
func (w *Walk) skips(ctx context.Context, err error) bool {
	use := errUse{}
	return ctx.Err() == nil && !errors.As(err, &use)
}

// NewFacts returns a walk for the facts of a timeline alone: ReadOn reads its segments, from the first one on.
func NewFacts(t *Timeline, dir string, fact func(segment.Entry)) *Walk {
	return &Walk{Timeline: t, After: t.First() - 1, Dir: dir, Fact: fact, cursor: cursor{spans: t.spans}}
}

// ReadOn reads the next segment behind those that were used, for its facts alone: those of a revision may be journaled
// after it. When there is none, it does nothing.
func (w *Walk) ReadOn(ctx context.Context) error {
	// Nothing is compared or added any more: the target is whole, and all that comes is later.
	w.Target, w.chain, w.After = nil, nil, max(w.After, w.end)
	err := w.step(ctx, segment.MaxRevision)
	if lost := (*Lost)(nil); errors.As(err, &lost) {
		return nil
	}
	return err
}

// Compared reports whether a segment with the target's newest revision was compared with the target, after a Run that
// adds nothing.
func (w *Walk) Compared() bool { return w.chain != nil }

// AtEnd reports whether the revision is the last one of the last segment that was used.
func (w *Walk) AtEnd() bool { return w.After >= w.end }

// Lost is the error that revisions cannot be read anywhere.
type Lost struct {
	Gap
	Timeline segment.Timeline
	Causes   []error // of the segments that should have them; none when there is no segment
	Refused  Refusal // to cross them; empty when the walk was not to cross any
}

// Error implements error.
func (l *Lost) Error() string {
	if len(l.Causes) == 0 {
		return fmt.Sprintf("the journal %s lacks %s", l.Timeline, l.Gap)
	}
	return fmt.Sprintf("%s of the journal %s cannot be read: %v", l.Gap, l.Timeline, errors.Join(l.Causes...))
}

// step uses the best segment behind the revision that the target has. to is the last revision that is wanted.
func (w *Walk) step(ctx context.Context, to int64) error {
	var causes []error
	for {
		s := w.cursor.best(w.After)
		if s == nil {
			return w.lost(to, causes)
		}
		for _, c := range s.copies {
			err := w.use(ctx, c, to)
			if err == nil {
				return nil
			}
			if !w.skips(ctx, err) {
				return cmp.Or(context.Cause(ctx), err)
			}
			causes = append(causes, err)
			w.Skipped = append(w.Skipped, err)
		}
		// All copies of this span are bad. Another span may hold its revisions, cut in another way.
		w.cursor.drop(s)
	}
}

// lost is the error that no segment has the next revision.
func (w *Walk) lost(to int64, causes []error) error {
	// That the snapshot is of another history says more than that a revision is lost: another snapshot has to be taken.
	for _, err := range causes {
		if errors.Is(err, ErrDiffers) {
			return err
		}
	}
	gap := Gap{First: w.After + 1, Last: min(to, w.cursor.resumes()-1)}
	return &Lost{Gap: gap, Timeline: w.Timeline.Name, Causes: causes}
}

// use reads a segment into a file, reads it through, and then adds its revisions.
func (w *Walk) use(ctx context.Context, c segmentCopy, to int64) error {
	m, file, err := w.fetch(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	if err := w.links(c, m); err != nil {
		return err
	}
	// A reader knows at the end alone whether a segment is good; the target must never have parts of a bad one.
	if err := read(c.place, m, file, w.check); err != nil {
		return err
	}
	if err := w.endCrossing(m); err != nil {
		return err
	}
	if err := read(c.place, m, file, func(e segment.Entry) error { return w.add(e, to) }); err != nil {
		return errUse{err} // it was good a moment ago
	}
	// In the middle of a segment the chain is not known: the manifest has the one of its end alone.
	w.After, w.end, w.chain = min(m.Last, to), m.Last, nil
	if w.After == m.Last {
		w.chain, w.chained, w.arrived = &m.Chain, m.Last, m.LastTime
	}
	w.Used, w.Bytes = append(w.Used, c.Ref), w.Bytes+m.StoredSize
	return nil
}

// fetch reads the manifest of a segment, and the segment into a file: it is read twice, and the backend is asked once.
func (w *Walk) fetch(ctx context.Context, c segmentCopy) (*segments.Manifest, string, error) {
	m, err := c.place.Manifest(ctx, c.Ref)
	if err != nil {
		return nil, "", err
	}
	file, err := fetch(ctx, c.place, m, w.Dir)
	return m, file, err
}

// links returns an error when a segment that follows the last one, maybe behind a gap, was written behind another
// history of it.
func (w *Walk) links(c segmentCopy, m *segments.Manifest) error {
	if w.chain == nil || m.Previous != w.chained || m.PreviousChain == *w.chain {
		return nil
	}
	return snapshot.ReasonChecksumMismatch.New("the segment %s, revisions %d to %d, does not follow revision %d",
		c.place.URI(c.Ref), m.First, m.Last, w.chained).On(c.place.Name()).Final().
		Because(fmt.Errorf("%w: it was written behind the history %x, and that of the journal is %x", errUnlinked,
			m.PreviousChain[:4], w.chain[:4]))
}

// errUnlinked: a segment does not continue the journal.
var errUnlinked = errors.New("the segment is of another history")

// check compares the revisions that the target has.
func (w *Walk) check(e segment.Entry) error {
	r, ok := e.(segment.Revision)
	if !ok || r.Main > w.After || w.Target == nil {
		return nil
	}
	return used(w.Target.Holds(r))
}

// add adds a revision that the target does not have, and passes facts on.
func (w *Walk) add(e segment.Entry, to int64) error {
	switch r, ok := e.(segment.Revision); {
	case !ok:
		w.Fact(e)
		return nil
	case r.Main <= w.After || r.Main > to || w.Target == nil:
		return nil
	default:
		return used(w.Target.Add(r))
	}
}

// used marks an error as one of the target.
func used(err error) error {
	if err == nil || errors.Is(err, ErrDiffers) {
		return err
	}
	return errUse{err}
}

// fetch reads a segment into a file.
func fetch(ctx context.Context, p *segments.Segments, m *segments.Manifest, dir string) (file string, err error) {
	f, err := os.CreateTemp(dir, "segment-*")
	if err != nil {
		return "", errUse{fmt.Errorf("read the segment %s: %w", m.Name(), err)}
	}
	into := &spoolWriter{f: f}
	err = p.Fetch(ctx, m, into)
	if cerr := f.Close(); cerr != nil {
		into.err = cmp.Or(into.err, cerr)
	}
	// An error of this disk would be one of every copy: the walk ends, and no copy is called bad.
	if into.err != nil {
		err = errUse{fmt.Errorf("read the segment %s: %w", m.Name(), into.err)}
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// spoolWriter remembers an error of the file, which is not one of the backend.
type spoolWriter struct {
	f   io.Writer
	err error
}

// Write implements [io.Writer].
func (s *spoolWriter) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	s.err = cmp.Or(s.err, err)
	return n, err
}

// read reads a segment in a file to its end.
func read(p *segments.Segments, m *segments.Manifest, file string, each func(segment.Entry) error) error {
	f, err := os.Open(file)
	if err != nil {
		return errUse{fmt.Errorf("read the segment %s: %w", m.Name(), err)}
	}
	r, err := p.Decode(m, f)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	return r.Each(each)
}
