package journal

import (
	"cmp"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// freshBreak is how long a break counts as it was noted when it was found, whatever the backends show: parts wait on
// the disk. It is also how old a gap must be that the backends alone show. The alert of a gap fires as long.
const freshBreak = time.Hour

// Shown is what the backends show of a journal. Unless it is whole, it can add to what is known of breaks, and end
// none: a segment that was not listed may be there.
type Shown struct {
	Window
	Whole bool // this is all that there is
}

// Notes returns the breaks that were noted, less those that have ended, with those that only the backends show.
//
// A note is better than a listing: it has the cause, and bounds from the time of the break. A listing may lack a
// directory, and a timeline loses its first segments when nothing needs them.
func (s *Shown) Notes(noted []snapshot.JournalBreak, now time.Time) []snapshot.JournalBreak {
	fresh := func(b *snapshot.JournalBreak) bool { return now.Sub(b.BeforeTime) < freshBreak }
	noted = slices.DeleteFunc(slices.Clone(noted), func(b snapshot.JournalBreak) bool {
		return ahead(&b, now) || s.Whole && !fresh(&b) && (s.filled(&b) || s.outside(&b))
	})
	var shown []snapshot.JournalBreak
	for _, b := range s.Breaks("no backend") {
		if b.BeforeTime.IsZero() { // the manifest behind it cannot be read
			continue
		}
		if ahead(&b.JournalBreak, now) { // the clock was wrong when it came, and is right now
			b.BeforeTime = now
		}
		if i := slices.IndexFunc(noted, func(n snapshot.JournalBreak) bool { return knows(&n, &b) }); i >= 0 {
			// A listing that lacks something shows wider gaps than there are, and would make the note worse.
			if s.Whole {
				complete(&noted[i], &b)
			}
		} else if b.Begins && b.Told || !b.Begins && s.Whole && !fresh(&b.JournalBreak) {
			// The first segments of a timeline are pruned, or elsewhere, without being lost.
			shown = append(shown, b.JournalBreak)
		}
	}
	return JoinBreaks(noted, shown, now)
}

// knows reports whether a note is of the break that the backends show. A timeline begins later and later there.
func knows(n *snapshot.JournalBreak, b *Break) bool {
	switch {
	case n.Timeline != b.Timeline || n.Backend != "":
		return false
	case b.Begins:
		return n.Before != 0 && n.Before <= b.Before
	case n.Before == 0:
		return n.After == b.After
	}
	return n.After <= b.After && b.Before <= n.Before
}

// complete adds to a note the bounds that it does not know, and revisions before it that a backend has now.
func complete(n *snapshot.JournalBreak, b *Break) {
	same := n.AfterTime.IsZero() || b.AfterTime.After(n.AfterTime) // an earlier history may have higher numbers
	if n.Before == b.Before && !n.OtherHistory && b.After > n.After && same {
		n.After, n.AfterTime = b.After, b.AfterTime
	}
	if n.Before == 0 && n.After == b.After {
		n.Before = b.Before
	}
}

// filled reports whether a backend has the revisions that were missing: that backend, when it alone lacked them.
func (s *Shown) filled(b *snapshot.JournalBreak) bool {
	if b.Before == 0 && b.After > 0 { // its end was not known: it is over, or a gap that is shown is the rest of it
		return slices.ContainsFunc(s.Timelines, func(t Held) bool {
			goesOn := func(r Range) bool { return r.First <= b.After+1 && r.Last > b.After }
			return string(t.Name) == b.Timeline && slices.ContainsFunc(t.Ranges, goesOn)
		})
	}
	// A beginning without lost revisions cannot be filled. It ends with the window, or when nothing before it is left.
	if b.Lost() == 0 {
		return false
	}
	if b.Backend != "" {
		return covered(s.On[b.Backend], b)
	}
	within := slices.ContainsFunc(s.Timelines, func(t Held) bool {
		return string(t.Name) == b.Timeline && t.Ranges[0].First <= b.After
	})
	return slices.ContainsFunc(s.Timelines, func(t Held) bool {
		if within && string(t.Name) != b.Timeline || begunBefore(b.Timeline, t.Name) {
			return false
		}
		return slices.ContainsFunc(t.Ranges, func(r Range) bool { // an earlier history may have the same numbers
			return r.First <= b.After+1 && b.Before-1 <= r.Last && !r.LastTime.Before(b.AfterTime)
		})
	})
}

// covered reports whether segments have all revisions that were missing.
func covered(all []segments.Ref, b *snapshot.JournalBreak) bool {
	var held []segment.Range
	for _, r := range all {
		if string(r.Timeline) == b.Timeline {
			held = append(held, segment.Range{First: r.First, Last: r.Last})
		}
	}
	return segment.Within(segment.Range{First: b.After + 1, Last: b.Before - 1}, segment.Union(held))
}

// outside reports whether the journal begins behind a break.
func (s *Shown) outside(b *snapshot.JournalBreak) bool {
	if len(s.Timelines) == 0 {
		return false
	}
	t := &s.Timelines[0]
	if string(t.Name) != b.Timeline {
		return begunBefore(b.Timeline, t.Name)
	}
	return t.Ranges[0].First >= cmp.Or(b.Before, b.After+1)
}

// begunBefore reports whether a timeline has begun before another one.
func begunBefore(name string, other segment.Timeline) bool {
	return segment.Timeline(name).Compare(other) < 0
}

// ahead reports whether a break lies in the future: a clock was wrong, or somebody else wrote it.
func ahead(b *snapshot.JournalBreak, now time.Time) bool { return snapshot.Ahead(b.BeforeTime, now) }

// JoinBreaks returns the breaks of two lists, the oldest first, without those of the future, which would never end. Of
// two that are the same, that of the second list counts.
func JoinBreaks(noted, more []snapshot.JournalBreak, now time.Time) []snapshot.JournalBreak {
	all := slices.DeleteFunc(slices.Clone(noted), func(b snapshot.JournalBreak) bool {
		return ahead(&b, now) || slices.ContainsFunc(more, func(m snapshot.JournalBreak) bool {
			grown := b.Backend != "" && m.After == b.After // more of it is missing now
			return m.Timeline == b.Timeline && m.Backend == b.Backend && (m.Before == b.Before || grown)
		})
	})
	all = append(all, more...)
	slices.SortStableFunc(all, func(a, b snapshot.JournalBreak) int { return a.BeforeTime.Compare(b.BeforeTime) })
	return all[max(0, len(all)-snapshot.MaxJournalBreaks):]
}
