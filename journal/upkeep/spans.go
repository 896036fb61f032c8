package upkeep

import (
	"cmp"
	"slices"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
)

// refs is a set of segments.
type refs map[segments.Ref]bool

// ranges returns the revisions of the segments.
func (r refs) ranges() []segment.Range {
	all := make([]segment.Range, 0, len(r))
	for ref := range r {
		all = append(all, rangeOf(ref))
	}
	return segment.Union(all)
}

// rangeOf returns the revisions of a segment.
func rangeOf(r segments.Ref) segment.Range { return segment.Range{First: r.First, Last: r.Last} }

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

// newOffers sorts segments by all that tells them apart, so that two repairs of the same listings choose the same.
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
