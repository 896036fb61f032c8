package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// settled is how long after a stretch of time its segments are merged: those of a replica that lags may come late.
const settled = time.Minute

// merges are the levels that are merged, and the length of the stretches of the higher one.
var merges = []struct {
	from, to segment.Level
	length   time.Duration
}{
	{segment.Level10s, segment.Level5m, 5 * time.Minute},
	{segment.Level5m, segment.Level1h, time.Hour},
}

// Merged counts the work of a merge.
type Merged struct {
	Written int // segments of higher levels
	Removed int // segments whose revisions others have

	Damaged map[segments.Ref]error // that were found; they stay as they are
}

// Merge merges the segments of a timeline on one backend whose stretch of time is over. Of each run, the merged segment
// is written, read back, and compared by its chain and the number of its entries; then the others are removed. After an
// interruption, those that are left of a run are compared once more, and removed. A run that cannot be merged stays as
// it is, and does not keep the others; the error names it. Encrypted segments can be merged only with an identity;
// without one the error has ReasonSnapshotSealed, and nothing was changed.
func Merge(ctx context.Context, s *segments.Segments, t segment.Timeline, now time.Time) (Merged, error) {
	m := &merging{segments: s, now: now, held: map[segment.Level][]segments.Ref{}}
	var errs []error
	failed := func(doing string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", doing, err))
		}
	}
	for _, l := range segment.Levels() {
		for item, err := range s.List(ctx, t, l) {
			if err != nil {
				return m.done, fmt.Errorf("list the journal %s: %w", t, err)
			}
			m.held[l] = append(m.held[l], item.Ref)
		}
	}
	for _, step := range merges {
		failed("remove merged segments of the journal "+string(t), m.removeLeft(ctx, step.from, step.to))
		// A copy from another backend, which has cut the history in another way, may hold others of its level.
		failed("remove segments of the journal "+string(t)+" that others hold", m.removeLeft(ctx, step.to, step.to))
		runs, err := m.runs(ctx, step.from, step.length)
		failed("read what can be merged of the journal "+string(t), err)
		if m.encrypted {
			break
		}
		for _, run := range runs {
			if ctx.Err() != nil {
				break
			}
			failed(fmt.Sprintf("merge the journal %s into segments of %s", t, step.to), m.run(ctx, run, step.to))
		}
	}
	return m.done, errors.Join(errs...)
}

// merging is one Merge.
type merging struct {
	segments  *segments.Segments
	now       time.Time
	held      map[segment.Level][]segments.Ref // as they were listed, and as they have become since
	encrypted bool                             // a segment is encrypted for others, and so are those after it
	done      Merged
}

// remove removes a segment.
func (m *merging) remove(ctx context.Context, r segments.Ref) error {
	if err := m.segments.Remove(ctx, r); err != nil {
		return err
	}
	m.held[r.Level] = slices.DeleteFunc(m.held[r.Level], func(h segments.Ref) bool { return h == r })
	m.done.Removed++
	return nil
}

// manifest reads the manifest of a segment.
func (m *merging) manifest(ctx context.Context, r segments.Ref) (*segments.Manifest, error) {
	read, err := m.segments.Manifest(ctx, r)
	return read, m.noteDamage(r, err)
}

// each reads a segment to its end.
func (m *merging) each(ctx context.Context, of *segments.Manifest, take func(segment.Entry) error) error {
	return m.noteDamage(of.Ref(), each(ctx, m.segments, of, take))
}

// noteDamage notes that a segment is damaged, if that is the error, which it returns.
func (m *merging) noteDamage(r segments.Ref, err error) error {
	if snapshot.IsDamage(err) {
		if m.done.Damaged == nil {
			m.done.Damaged = map[segments.Ref]error{}
		}
		m.done.Damaged[r] = err
	}
	return err
}

// removeLeft removes the segments of a level that are in one of the next level, or a larger one of the same, with the
// same history.
func (m *merging) removeLeft(ctx context.Context, from, to segment.Level) error {
	var errs []error
	// A clone: with from and to the same, removing changes the list that is gone through.
	for _, u := range slices.Clone(m.held[to]) {
		if !slices.Contains(m.held[to], u) {
			continue // it was removed itself
		}
		var left []segments.Ref
		for _, l := range m.held[from] {
			if u != l && u.First <= l.First && l.Last <= u.Last {
				left = append(left, l)
			}
		}
		if len(left) > 0 {
			errs = append(errs, m.removeSame(ctx, u, left))
		}
	}
	return errors.Join(errs...)
}

// removeSame reads a segment, and removes those others after whose last revisions it has the same chain.
func (m *merging) removeSame(ctx context.Context, upper segments.Ref, left []segments.Ref) error {
	u, err := m.manifest(ctx, upper)
	if err != nil {
		return err
	}
	at := map[int64]segment.Chain{}
	for _, l := range left {
		at[l.Last] = segment.Chain{}
	}
	if err := m.noteDamage(upper, readChains(ctx, m.segments, u, at)); err != nil {
		return err
	}
	var errs []error
	for _, r := range left {
		l, err := m.manifest(ctx, r)
		// Another history: it stays. Nothing tells here which one is right.
		if err == nil && l.Chain != at[r.Last] {
			continue
		}
		if err == nil {
			err = m.remove(ctx, r)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// readChains reads a segment to its end, and sets the chains after some of its revisions.
func readChains(ctx context.Context, s *segments.Segments, m *segments.Manifest, at map[int64]segment.Chain) error {
	chain := m.PreviousChain
	return each(ctx, s, m, func(e segment.Entry) error {
		if r, ok := e.(segment.Revision); ok {
			chain = chain.Next(r)
			if _, asked := at[r.Main]; asked {
				at[r.Main] = chain
			}
		}
		return nil
	})
}

// runs returns the segments of a level in runs, each within one stretch of time and without a hole. A stretch that is
// not over is left out. A segment that does not follow the one before begins another run. One whose manifest is not
// usable is in none, and is part of the error. One that is encrypted for others ends the reading.
func (m *merging) runs(
	ctx context.Context, l segment.Level, length time.Duration,
) (runs [][]*segments.Manifest, err error) {
	var run []*segments.Manifest
	var errs []error
	size := int64(0)
	for _, ref := range m.held[l] {
		next, err := m.manifest(ctx, ref)
		if err != nil {
			if errs = append(errs, err); ctx.Err() != nil {
				break
			}
			continue
		}
		if err := m.segments.Readable(next); err != nil {
			m.encrypted = true
			return nil, errors.Join(append(errs, err)...) // before the manifests of all others are read for nothing
		}
		stretch := next.FirstTime.Truncate(length)
		if m.now.Before(stretch.Add(length + settled)) {
			continue // those behind it may be of an earlier time, when a clock was wrong
		}
		if n := len(run); n > 0 {
			last := run[n-1]
			// A merged segment has the same bound as one that was sealed by its size: both are made in memory.
			if !follows(next, last) || !stretch.Equal(last.FirstTime.Truncate(length)) || size+next.Size > segment.MaxContent {
				runs, run, size = append(runs, run), nil, 0
			}
		}
		run, size = append(run, next), size+next.Size
	}
	if len(run) > 0 {
		runs = append(runs, run)
	}
	return runs, errors.Join(errs...)
}

// follows reports whether a segment was written behind another one.
func follows(m, last *segments.Manifest) bool {
	return m.First == last.Last+1 && m.Previous == last.Last && m.PreviousChain == last.Chain
}

// run merges a run of segments, and removes them.
func (m *merging) run(ctx context.Context, run []*segments.Manifest, to segment.Level) error {
	merged, err := m.merged(ctx, run, to)
	if err != nil {
		return err
	}
	if err := m.segments.Put(ctx, merged); err != nil {
		return err
	}
	// The backend has said that it has stored it. It is believed only after all of it was read back.
	if err := compare(ctx, m.segments, &merged.Header); err != nil {
		return err
	}
	m.done.Written++
	m.held[to] = append(m.held[to], segments.RefOf(&merged.Header))
	// The next step goes through them in their order (runs).
	slices.SortFunc(m.held[to],
		func(a, b segments.Ref) int { return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last)) })
	for _, l := range run {
		if err := m.remove(ctx, l.Ref()); err != nil {
			return err
		}
	}
	return nil
}

// merged returns a segment with all entries of a run.
func (m *merging) merged(
	ctx context.Context, run []*segments.Manifest, to segment.Level,
) (*segment.Segment, error) {
	first, last := run[0], run[len(run)-1]
	b, err := segment.NewBuilder(segment.Header{
		Timeline: first.Timeline, Level: to, Member: last.Member,
		Previous: first.Previous, PreviousChain: first.PreviousChain, Reason: first.Reason,
	})
	if err != nil {
		return nil, err
	}
	for _, one := range run {
		if err := m.each(ctx, one, b.Add); err != nil {
			return nil, err
		}
	}
	seg, err := b.Seal()
	if err != nil {
		return nil, err
	}
	// The manifests chose the run; the entries decide whether it is one.
	if seg.Header.Chain != last.Chain || seg.Header.First != first.First || seg.Header.Last != last.Last {
		return nil, errors.New("the segments do not make the history that their manifests say")
	}
	return seg, nil
}

// compare reads a merged segment back from the backend.
func compare(ctx context.Context, s *segments.Segments, want *segment.Header) error {
	m, err := s.Manifest(ctx, segments.RefOf(want))
	if err != nil {
		return err
	}
	if m.Chain != want.Chain || m.Entries != want.Entries || m.Records != want.Records {
		return fmt.Errorf("%s has %d entries and another history than the %d that were merged", s.URI(m.Ref()), m.Entries,
			want.Entries)
	}
	return each(ctx, s, m, func(segment.Entry) error { return nil })
}

// each reads a segment to its end.
func each(ctx context.Context, s *segments.Segments, m *segments.Manifest, take func(segment.Entry) error) error {
	r, err := s.Open(ctx, m)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	return r.Each(take)
}
