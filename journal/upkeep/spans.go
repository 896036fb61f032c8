package upkeep

import (
	"cmp"
	"slices"

	"github.com/snapshotd/snapshotd/repository/segments"
)

// span is consecutive revisions.
type span struct{ first, last int64 }

// union returns the revisions of some segments, in ascending order.
func union(all refs) []span {
	spans := make([]span, 0, len(all))
	for r := range all {
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
		for len(others) > 0 && others[0].last < s.first {
			others = others[1:]
		}
		for _, o := range others {
			if o.first > s.last {
				break
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

// within reports whether all revisions of a segment are in some spans.
func within(r segments.Ref, all []span) bool {
	i, _ := slices.BinarySearchFunc(all, r.First, func(s span, first int64) int { return cmp.Compare(s.last, first) })
	return i < len(all) && all[i].first <= r.First && r.Last <= all[i].last
}

// size returns how many revisions there are in some spans.
func size(all []span) (n int64) {
	for _, s := range all {
		n += s.last - s.first + 1
	}
	return n
}

// refs is a set of segments.
type refs map[segments.Ref]bool

// offer is a segment that a backend has.
type offer struct {
	segments.Ref
	from *side
}

// offers are segments of backends, for a walk through their revisions in ascending order.
type offers struct {
	ahead []offer // in ascending order of their first revisions
	here  []offer // that begin before, and may reach where the walk is
}

func newOffers(all []offer) *offers {
	slices.SortFunc(all, func(a, b offer) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), cmp.Compare(a.Level, b.Level),
			cmp.Compare(a.from.Name(), b.from.Name()))
	})
	return &offers{ahead: all}
}

// best returns the offer that holds a revision and reaches the furthest up to another one, and of these the one with
// the fewest revisions. No call may go back behind the one before.
func (o *offers) best(pos, last int64) (found offer, ok bool) {
	for len(o.ahead) > 0 && o.ahead[0].First <= pos {
		o.here, o.ahead = append(o.here, o.ahead[0]), o.ahead[1:]
	}
	o.here = slices.DeleteFunc(o.here, func(a offer) bool { return a.Last < pos })
	for _, a := range o.here {
		further := cmp.Compare(min(a.Last, last), min(found.Last, last))
		if !ok || further > 0 || further == 0 && a.Last-a.First < found.Last-found.First {
			found, ok = a, true
		}
	}
	return found, ok
}

// next returns the first revision that is offered behind the walk; the one behind another one when that is before it.
func (o *offers) next(last int64) int64 {
	if len(o.ahead) == 0 {
		return last + 1
	}
	return min(o.ahead[0].First, last+1)
}

// drop drops some offers.
func (o *offers) drop(which func(offer) bool) {
	o.ahead, o.here = slices.DeleteFunc(o.ahead, which), slices.DeleteFunc(o.here, which)
}
