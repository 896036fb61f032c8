package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// side is one backend in a repair. A segment that is listed there is held, or bad, or neither: one that was absent when
// it was looked at. Only held ones count as a source, and as there. One that could not be read counts as held until it
// is known to be bad: the backend may be away, and a copy would be for nothing.
type side struct {
	*segments.Segments
	done   Copied
	silent error // why it does not count
	row    int   // how many segments in a row it has not given
	filled int64 // revisions that it lacked, and has now

	// Of one timeline.
	held, bad    refs                   // bad ones are damaged as far as it is known
	begins, ends map[int64]segments.Ref // one of those that are held, by its first and its last revision
	last         int64                  // revision
}

// failed notes an error.
func (s *side) failed(err error) {
	if err != nil {
		s.done.Err = errors.Join(s.done.Err, err)
	}
}

// add adds a good segment.
func (s *side) add(r segments.Ref) {
	s.held[r], s.begins[r.First], s.ends[r.Last] = true, r, r
	delete(s.bad, r)
}

// spoiled notes that a segment that was held to be good is damaged.
func (s *side) spoiled(r segments.Ref, err error) {
	s.done.Damaged = append(s.done.Damaged, Damage{s.Name(), r, err})
	delete(s.held, r)
	s.bad[r] = true
}

// list lists the segments of a timeline.
func (r *repair) list(ctx context.Context, s *side, t segment.Timeline) {
	s.held, s.bad, s.begins, s.ends, s.last = refs{}, refs{}, map[int64]segments.Ref{}, map[int64]segments.Ref{}, 0
	if s.silent != nil {
		return
	}
	began := time.Now()
	items, err := s.Of(ctx, t)
	// Only copying counts for the share: a slow backend would otherwise never be copied to.
	r.left.extend(time.Since(began))
	r.looks.extend(time.Since(began))
	if err != nil {
		s.silent = err
		s.failed(err)
		return
	}
	there := refs{}
	var suspects []segments.Item
	for _, item := range items {
		there[item.Ref] = true
		s.last = max(s.last, item.Last)
		if r.copies.findings.last(at{s.Name(), item.Ref}).err != nil {
			suspects = append(suspects, item)
			continue
		}
		s.add(item.Ref)
	}
	r.copies.findings.forget(s.Name(), func(ref segments.Ref) bool { return ref.Timeline != t || there[ref] })
	r.again(ctx, s, items, suspects)
}

// again looks once more at segments that were not good. Another replica, or a person, may have put them right. Those
// that were looked at the longest ago are the first, and as many as there is time for.
func (r *repair) again(ctx context.Context, s *side, items, suspects []segments.Item) {
	f := &r.copies.findings
	// Without one that the backend gives, an unreadable suspect could not be told from a backend that is away.
	if len(suspects) > 0 && !f.knows(s.Name()) {
		r.tryOne(ctx, s, items)
	}
	slices.SortStableFunc(suspects, func(a, b segments.Item) int {
		return f.last(at{s.Name(), a.Ref}).looked.Compare(f.last(at{s.Name(), b.Ref}).looked)
	})
	for _, item := range suspects {
		last := f.last(at{s.Name(), item.Ref})
		if s.add(item.Ref); last.bad {
			delete(s.held, item.Ref)
			s.bad[item.Ref] = true
		}
		// Those that are not looked at again count as they were found last.
		if s.row == inRow || r.looks.spent() || last.isSpare(r.now) || ctx.Err() != nil {
			continue
		}
		got, err := f.look(ctx, s.Segments, item.Ref, r.now)
		r.looks.bytes -= item.Size
		if got == unreadable {
			if s.row++; s.row == inRow {
				s.failed(err)
			}
			continue
		}
		s.row = 0
		switch {
		case got == good:
			s.add(item.Ref)
		case got == absent:
			delete(s.held, item.Ref)
			delete(s.bad, item.Ref)
		case !last.bad:
			s.spoiled(item.Ref, err)
		}
	}
}

// tryOne reads a segment that is no suspect. If that works, the suspects are to blame themselves: the backend is not
// away.
func (r *repair) tryOne(ctx context.Context, s *side, items []segments.Item) {
	if one := s.smallest(items); one != nil && !r.looks.spent() {
		r.looks.bytes -= one.Size
		if got, err := r.copies.findings.look(ctx, s.Segments, one.Ref, r.now); got == damaged {
			s.spoiled(one.Ref, err)
		}
	}
}

// smallest returns the smallest of some segments that is held; nil when none is. It is to show that the backend gives
// anything at all, for the fewest bytes.
func (s *side) smallest(items []segments.Item) (least *segments.Item) {
	for i := range items {
		if s.held[items[i].Ref] && (least == nil || items[i].Size < least.Size) {
			least = &items[i]
		}
	}
	return least
}

// links returns an error when a segment cannot be in a hole of a backend, because the segments beside the hole are of
// another history. Without signatures, this is all that tells a forged one whose checksums are right. A merged segment
// that reaches over those beside the hole is read for that, unless there is no identity for it. It returns how many
// bytes were read.
func (s *side) links(
	ctx context.Context, from *segments.Segments, m *segments.Manifest, hole segment.Range,
) (read int64, err error) {
	want, err := s.beside(ctx, m, hole)
	if err != nil {
		return 0, err
	}
	got := map[int64]segment.Chain{}
	for revision := range want {
		if revision >= m.First && revision < m.Last && from.Readable(m) == nil {
			got[revision] = segment.Chain{}
		}
	}
	if len(got) > 0 {
		read = m.StoredSize
		if err := readChains(ctx, from, m, got); err != nil {
			return read, err
		}
	}
	// The manifest has these two. Only for those between had the content to be read.
	got[m.Previous], got[m.Last] = m.PreviousChain, m.Chain
	for revision, chain := range want {
		if is, known := got[revision]; known && is != chain {
			cause := fmt.Errorf("%w: after revision %d, %x and %x", segments.ErrOtherHistory, revision, is[:4], chain[:4])
			return read, snapshot.ReasonConflict.New("copy the segment %s, revisions %d to %d, to backend %s",
				m.Name(), m.First, m.Last, s.Name()).Because(cause).Final().
				Advise("etcd was restored, or another service with this cluster's name and prefix writes to one of the backends")
		}
	}
	return read, nil
}

// beside returns, by revision, the chains that the segments around a hole have after revisions of m, or after the one
// before it. Without such segments they are those of the damaged segment of the same name, if its manifest is good.
func (s *side) beside(ctx context.Context, m *segments.Manifest, hole segment.Range) (map[int64]segment.Chain, error) {
	want := map[int64]segment.Chain{}
	tell := func(ref segments.Ref) {
		b, err := s.Manifest(ctx, ref)
		if err != nil {
			return // a scrub names it
		}
		if _, _, lost := b.Lost(); lost {
			return
		}
		for revision, chain := range map[int64]segment.Chain{b.Previous: b.PreviousChain, b.Last: b.Chain} {
			if revision > 0 && m.Previous <= revision && revision <= m.Last {
				want[revision] = chain
			}
		}
	}
	for _, ref := range []segments.Ref{
		s.ends[hole.First-1], s.ends[m.First-1], s.begins[hole.Last+1], s.begins[m.Last+1],
	} {
		if s.held[ref] {
			tell(ref)
		}
	}
	if len(want) == 0 && s.bad[m.Ref()] {
		tell(m.Ref())
	}
	return want, ctx.Err()
}
