package upkeep

import (
	"cmp"
	"slices"

	"github.com/snapshotd/snapshotd/repository/segments"
)

// span is consecutive revisions.
type span struct{ first, last int64 }

// union returns the revisions of some segments, in ascending order.
func union(all []segments.Ref) []span {
	spans := make([]span, 0, len(all))
	for _, r := range all {
		spans = append(spans, span{r.First, r.Last})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var joined []span
	for _, s := range spans {
		if n := len(joined); n > 0 && s.first <= joined[n-1].last+1 {
			joined[n-1].last = max(joined[n-1].last, s.last)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// without returns the revisions of some spans that are not in others. Both are in ascending order.
func without(all, others []span) (left []span) {
	for _, s := range all {
		for _, o := range others {
			if o.last < s.first || o.first > s.last {
				continue
			}
			if o.first > s.first {
				left = append(left, span{s.first, o.first - 1})
			}
			s.first = o.last + 1
		}
		if s.first <= s.last {
			left = append(left, s)
		}
	}
	return left
}

// size returns how many revisions there are in some spans.
func size(all []span) (n int64) {
	for _, s := range all {
		n += s.last - s.first + 1
	}
	return n
}
