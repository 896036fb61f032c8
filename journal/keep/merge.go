package keep

import (
	"context"
	"errors"
	"fmt"
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

// Merged counts what a merge has done.
type Merged struct {
	Written int // segments of higher levels
	Removed int // segments of lower levels, whose revisions these have
}

// Merge merges the segments of a timeline on one backend whose stretch of time is over. Of each run, the merged segment
// is written, read back, and compared by its chain and the number of its entries; then the others are removed. After an
// interruption, those that are left of a run are compared once more, and removed. What cannot be merged stays as it is,
// and does not keep the others; the error names it. Encrypted segments can be merged only with an identity; without one
// the error has ReasonSnapshotSealed, and nothing was changed.
func Merge(ctx context.Context, s *segments.Segments, t segment.Timeline, now time.Time) (Merged, error) {
	var done Merged
	var errs []error
	failed := func(doing string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", doing, err))
		}
	}
	for _, m := range merges {
		failed("remove merged segments of the journal "+string(t), removeLeft(ctx, s, t, m.from, m.to, &done))
		runs, err := runsOf(ctx, s, t, m.from, m.length, now)
		failed("list what can be merged of the journal "+string(t), err)
		if snapshot.ReasonOf(err) == snapshot.ReasonSnapshotSealed {
			break // so are the others
		}
		for _, run := range runs {
			if ctx.Err() != nil {
				break
			}
			err := mergeRun(ctx, s, run, m.to, &done)
			failed(fmt.Sprintf("merge the journal %s into segments of %s", t, m.to), err)
		}
	}
	return done, errors.Join(errs...)
}

// removeLeft removes the segments of a level that are in one of the next level, with the same history.
func removeLeft(ctx context.Context, s *segments.Segments, t segment.Timeline, from, to segment.Level, done *Merged) error {
	lower, err := items(ctx, s, t, from)
	if err != nil || len(lower) == 0 {
		return err
	}
	upper, err := items(ctx, s, t, to)
	if err != nil {
		return err
	}
	var errs []error
	for _, u := range upper {
		left := map[int64]segments.Ref{} // by their last revisions
		for _, l := range lower {
			if u.First <= l.First && l.Last <= u.Last {
				left[l.Last] = l
			}
		}
		if len(left) == 0 {
			continue
		}
		errs = append(errs, removeSame(ctx, s, u, left, done))
	}
	return errors.Join(errs...)
}

// items returns the segments of a level.
func items(ctx context.Context, s *segments.Segments, t segment.Timeline, l segment.Level) (all []segments.Ref, err error) {
	for item, err := range s.List(ctx, t, l) {
		if err != nil {
			return nil, err
		}
		all = append(all, item.Ref)
	}
	return all, nil
}

// removeSame reads a segment, and removes those others after whose last revisions it has the same chain.
func removeSame(
	ctx context.Context, s *segments.Segments, upper segments.Ref, left map[int64]segments.Ref, done *Merged,
) error {
	m, err := s.Manifest(ctx, upper)
	if err != nil {
		return err
	}
	chain, chains := m.PreviousChain, map[int64]segment.Chain{}
	err = each(ctx, s, m, func(e segment.Entry) error {
		if r, ok := e.(segment.Revision); ok {
			chain = chain.Next(r)
			if _, asked := left[r.Main]; asked {
				chains[r.Main] = chain
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for last, r := range left {
		l, err := s.Manifest(ctx, r)
		if err == nil && l.Chain != chains[last] {
			continue
		}
		if err == nil {
			err = s.Remove(ctx, r)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		done.Removed++
	}
	return errors.Join(errs...)
}

// runsOf returns the segments of a level in runs, each within one stretch of time and without a hole. A stretch that is
// not over is left out. A segment that does not follow the one before begins another run. One whose manifest is not
// usable is in none, and is part of the error. One that is encrypted for others ends the reading.
func runsOf(
	ctx context.Context, s *segments.Segments, t segment.Timeline, l segment.Level, length time.Duration, now time.Time,
) (runs [][]*segments.Manifest, err error) {
	var run []*segments.Manifest
	var errs []error
	size := int64(0)
	for item, err := range s.List(ctx, t, l) {
		if err != nil {
			return nil, err
		}
		m, err := s.Manifest(ctx, item.Ref)
		if err != nil {
			if errs = append(errs, err); ctx.Err() != nil {
				break
			}
			continue
		}
		if err := s.Readable(m); err != nil {
			return nil, err // before the manifests of all others are read for nothing
		}
		stretch := m.FirstTime.Truncate(length)
		if now.Before(stretch.Add(length + settled)) {
			break
		}
		if n := len(run); n > 0 {
			last := run[n-1]
			if !follows(m, last) || !stretch.Equal(last.FirstTime.Truncate(length)) || size+m.Size > segment.MaxContent {
				runs, run, size = append(runs, run), nil, 0
			}
		}
		run, size = append(run, m), size+m.Size
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

// mergeRun merges a run of segments, and removes them.
func mergeRun(ctx context.Context, s *segments.Segments, run []*segments.Manifest, to segment.Level, done *Merged) error {
	merged, err := merged(ctx, s, run, to)
	if err != nil {
		return err
	}
	if err := s.Put(ctx, merged); err != nil {
		return err
	}
	if err := compare(ctx, s, &merged.Header); err != nil {
		return err
	}
	done.Written++
	for _, m := range run {
		if err := s.Remove(ctx, m.Ref()); err != nil {
			return err
		}
		done.Removed++
	}
	return nil
}

// merged returns a segment with all entries of a run.
func merged(ctx context.Context, s *segments.Segments, run []*segments.Manifest, to segment.Level) (*segment.Segment, error) {
	first, last := run[0], run[len(run)-1]
	b, err := segment.NewBuilder(segment.Header{
		Timeline: first.Timeline, Level: to, Member: last.Member,
		Previous: first.Previous, PreviousChain: first.PreviousChain, Reason: first.Reason,
	})
	if err != nil {
		return nil, err
	}
	for _, m := range run {
		if err := each(ctx, s, m, b.Add); err != nil {
			return nil, err
		}
	}
	seg, err := b.Seal()
	if err != nil {
		return nil, err
	}
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
		return fmt.Errorf("%s has %d entries and another history than the %d that were merged", s.URI(m.Ref()), m.Entries, want.Entries)
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
