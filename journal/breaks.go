package journal

import (
	"fmt"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Break is a place where the journal on the backends does not go on.
type Break struct {
	snapshot.JournalBreak
	Begins bool // a timeline begins behind it
	Told   bool // a segment gives the reason
}

// Breaks returns where the journal does not go on, in order: the beginning of each timeline that does not continue the
// one before, and each gap within a timeline. The oldest timeline makes none, as it is not known what was before it.
// where names the backends that were listed; it is in the reason when no segment gives one.
func (w *Window) Breaks(where string) (all []Break) {
	var last *Range
	for _, t := range w.Timelines {
		for i := range t.Ranges {
			r, reason := &t.Ranges[i], t.Ranges[i].Reason
			if i == 0 {
				reason = t.Reason
			}
			if last != nil && (i > 0 || reason != "" || r.First > last.Last+1) {
				b := breakOf(last, r, reason, where)
				b.Timeline, b.Begins, b.Told = string(t.Name), i == 0, reason != ""
				b.OtherHistory = i == 0 && segment.CauseOf(reason).Alarming()
				all = append(all, b)
			}
			// Also over the border of timelines: one is compared with the end of the one before.
			last = r
		}
	}
	return all
}

// breakOf is the break between two ranges. Its times are those of the revisions at its ends, as far as they are known.
func breakOf(last, next *Range, reason, where string) Break {
	if reason == "" {
		reason = fmt.Sprintf("%s holds the revisions %d to %d", where, last.Last+1, next.First-1)
	}
	return Break{JournalBreak: snapshot.JournalBreak{
		After: last.Last, Before: next.First, AfterTime: last.LastTime, BeforeTime: next.FirstTime, Reason: reason,
	}}
}
