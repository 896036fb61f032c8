package segment_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/snapshotd/snapshotd/journal/segment"
)

const mostRevisions = 40

// revisions is a set of revisions: what ranges stand for.
type revisions [mostRevisions + 2]bool

func revisionsOf(all ...segment.Range) (set revisions) {
	for _, r := range all {
		for i := r.First; i <= r.Last; i++ {
			set[i] = true
		}
	}
	return set
}

// ranges returns the set as [segment.Union] has it.
func (s revisions) ranges() (all []segment.Range) {
	for i, in := range s {
		switch revision := int64(i); {
		case in && s[i-1]:
			all[len(all)-1].Last = revision
		case in:
			all = append(all, segment.Range{First: revision, Last: revision})
		}
	}
	return all
}

// randomRanges may overlap, touch each other, or be the same.
func randomRanges(random *rand.Rand) []segment.Range {
	all := make([]segment.Range, random.IntN(7))
	for i := range all {
		all[i].First = 1 + random.Int64N(mostRevisions)
		all[i].Last = all[i].First + random.Int64N(min(8, mostRevisions+1-all[i].First))
	}
	return all
}

// What is said of ranges is what is true of the revisions in them.
func TestRangesAreSetsOfRevisions(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		some, others := randomRanges(random), randomRanges(random)
		given := slices.Clone(some)
		all, set := segment.Union(some), revisionsOf(some...)
		if !slices.Equal(all, set.ranges()) || !slices.Equal(some, given) {
			t.Fatalf("the union of %v is %v, and they are %v now", given, all, some)
		}
		left, without := segment.Without(all, segment.Union(others)), set
		for i, in := range revisionsOf(others...) {
			without[i] = without[i] && !in
		}
		if !slices.Equal(left, without.ranges()) {
			t.Fatalf("%v without %v is %v", all, others, left)
		}
		size := int64(0)
		for _, in := range set {
			if in {
				size++
			}
		}
		if got := segment.Size(all); got != size {
			t.Fatalf("%v has %d revisions, not %d", all, got, size)
		}
		for _, r := range others {
			is := !slices.Contains(set[r.First:r.Last+1], false)
			if got := segment.Within(r, all); got != is {
				t.Fatalf("%v is within %v: %v", r, all, got)
			}
		}
	}
}

// A range without revisions has none that another one lacks.
func TestNothingIsLeftOfARangeWithoutRevisions(t *testing.T) {
	none := []segment.Range{{First: 11, Last: 10}}
	for _, others := range [][]segment.Range{nil, {{First: 1, Last: 20}}, {{First: 1, Last: 5}, {First: 11, Last: 20}}} {
		if left := segment.Without(none, others); left != nil {
			t.Errorf("without %v: %v", others, left)
		}
	}
}

func TestRangeNamesItsRevisions(t *testing.T) {
	got := fmt.Sprint(segment.Range{First: 7, Last: 7}, "; ", segment.Range{First: 7, Last: 9})
	if got != "revision 7; revisions 7 to 9" {
		t.Error(got)
	}
}
