package segment

import (
	"cmp"
	"fmt"
	"slices"
)

// Range is consecutive revisions. Sets of revisions are ranges in ascending order, as [Union] returns them.
type Range struct{ First, Last int64 }

// String returns the revisions.
func (r Range) String() string {
	if r.First == r.Last {
		return fmt.Sprintf("revision %d", r.First)
	}
	return fmt.Sprintf("revisions %d to %d", r.First, r.Last)
}

// Union returns the revisions of some ranges, which may be in any order and may overlap. The ranges that it returns are
// in ascending order, and between two of them a revision is missing.
func Union(all []Range) (joined []Range) {
	for _, r := range slices.SortedFunc(slices.Values(all),
		func(a, b Range) int { return cmp.Compare(a.First, b.First) }) {
		if n := len(joined); n > 0 && r.First <= joined[n-1].Last+1 {
			joined[n-1].Last = max(joined[n-1].Last, r.Last)
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// Without returns the revisions of a set that are not in another one.
func Without(all, others []Range) (left []Range) {
	for _, r := range all {
		for len(others) > 0 && others[0].Last < r.First {
			others = others[1:]
		}
		// Not taken from others: it may reach into the next range, too.
		for _, o := range others {
			if o.First > r.Last {
				break
			}
			if o.First > r.First {
				left = append(left, Range{r.First, o.First - 1})
			}
			r.First = o.Last + 1
		}
		if r.First <= r.Last {
			left = append(left, r)
		}
	}
	return left
}

// Within reports whether all revisions of a range are in a set.
func Within(r Range, all []Range) bool {
	i, _ := slices.BinarySearchFunc(all, r.First, func(s Range, first int64) int { return cmp.Compare(s.Last, first) })
	return i < len(all) && all[i].First <= r.First && r.Last <= all[i].Last
}

// Size returns how many revisions are in a set.
func Size(all []Range) (n int64) {
	for _, r := range all {
		n += r.Last - r.First + 1
	}
	return n
}
