package upkeep

import (
	"context"
	"fmt"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// links returns an error when a segment cannot be in a hole of a place, because the segments beside the hole are of
// another history. Without signatures, this is all that tells a forged one whose checksums are right. A merged segment
// that reaches over those beside the hole is read for that, unless there is no identity for it.
func (r *repair) links(ctx context.Context, k int, o offer, m *segments.Manifest, hole span) error {
	from := r.places[o.place].Segments
	want, err := r.beside(ctx, k, m, hole)
	if err != nil {
		return err
	}
	got := map[int64]segment.Chain{}
	for revision := range want {
		if revision >= m.First && revision < m.Last && from.Readable(m) == nil {
			got[revision] = segment.Chain{}
		}
	}
	if len(got) > 0 {
		if err := readChains(ctx, from, m, got); err != nil {
			return err
		}
	}
	got[m.Previous], got[m.Last] = m.PreviousChain, m.Chain
	for revision, chain := range want {
		if is, known := got[revision]; known && is != chain {
			return snapshot.ReasonConflict.New("copy the segment %s, revisions %d to %d, to backend %s", m.Name(), m.First, m.Last, r.all[k].Backend).
				Because(fmt.Errorf("%w: after revision %d, %x and %x", segments.ErrOtherHistory, revision, is[:4], chain[:4])).Final().
				Advise("etcd was restored, or another service with this cluster's name and prefix writes to one of the backends")
		}
	}
	return nil
}

// beside returns the chains after some revisions of a segment, or of the one before it, that the segments around a hole of
// a place tell. When there are none, a damaged segment of its name tells them, if its manifest is good.
func (r *repair) beside(ctx context.Context, k int, m *segments.Manifest, hole span) (map[int64]segment.Chain, error) {
	s, want := r.sides[k], map[int64]segment.Chain{}
	tell := func(ref segments.Ref) {
		b, err := r.places[k].Segments.Manifest(ctx, ref)
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
	for _, ref := range []segments.Ref{s.ends[hole.first-1], s.ends[m.First-1], s.begins[hole.last+1], s.begins[m.Last+1]} {
		if s.held[ref] {
			tell(ref)
		}
	}
	if len(want) == 0 && s.bad[m.Ref()] {
		tell(m.Ref())
	}
	return want, ctx.Err()
}
