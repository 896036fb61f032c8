package plan

import (
	"errors"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Crossing is a gap that a [Walk] went over: the revisions behind it were added to those before it.
type Crossing struct {
	Gap
	Since time.Time // arrival of the last revision before it
	Until time.Time // arrival of the first revision behind it

	Reason string  // of the gap, as the segment behind it has it; empty when nobody knew of the gap then
	Causes []error // of the damaged segments that should have the revisions; none when there is no segment
}

// Why says why the revisions are lost.
func (c *Crossing) Why() string {
	switch {
	case c.Reason != "":
		return c.Reason
	case len(c.Causes) > 0:
		return errors.Join(c.Causes...).Error()
	}
	return "no backend has a segment with them"
}

// Refusal is why a walk that may cross gaps does not cross one.
type Refusal string

// The refusals.
const (
	// RefusedInside: the target is in the gap.
	RefusedInside Refusal = "it is itself among the revisions that are lost"
	// RefusedUnread: a segment that should have the revisions is there, and may be readable later.
	RefusedUnread Refusal = "a segment with these revisions is there, and could not be read now"
	// RefusedUntrusted: a segment that should have the revisions is there, and its signature is not trusted.
	RefusedUntrusted Refusal = "a segment with these revisions is there, and is not signed with a key that was given: " +
		"give --signing-public-key-file for each key that has signed, and remove a segment that was forged"
	// RefusedUnlinked: the journal behind the gap does not follow that before it.
	RefusedUnlinked Refusal = "the journal behind it is of another history than that before it"
	// RefusedUnknown: no revision of the snapshot could be compared with the journal before the gap.
	RefusedUnknown Refusal = "nothing shows that the snapshot is of the history of this journal, " +
		"as its own revision is among those that are lost"
)

// before returns the highest last revision of a segment that ends before another one; 0 when there is none.
func (w *Walk) before(revision int64) (last int64) {
	for _, s := range w.Timeline.spans {
		if s.last < revision {
			last = max(last, s.last)
		}
	}
	return last
}

// beginCrossing goes over revisions that are lost, if it may, and the journal goes on behind them. Otherwise it says
// why not.
func (w *Walk) beginCrossing(lost *Lost) bool {
	if w.Cross == nil {
		return false
	}
	undamaged := func(cause error) bool { return !snapshot.IsDamage(cause) }
	untrusted := func(cause error) bool { return snapshot.ReasonOf(cause) == snapshot.ReasonManifestUntrusted }
	unlinked := func(cause error) bool { return errors.Is(cause, errUnlinked) }
	switch {
	case slices.ContainsFunc(lost.Causes, unlinked):
		lost.Refused = RefusedUnlinked
	case slices.ContainsFunc(lost.Causes, undamaged):
		lost.Refused = RefusedUnread
	case slices.ContainsFunc(lost.Causes, untrusted):
		lost.Refused = RefusedUntrusted
	case lost.Last >= w.To:
		lost.Refused = RefusedInside
	case w.chain == nil:
		lost.Refused = RefusedUnknown
	}
	if w.gap != nil { // the segment behind the gap is lost, too
		lost.First, lost.Causes = w.gap.First, append(slices.Clone(w.gap.Causes), lost.Causes...)
	}
	if lost.Refused != "" {
		return false
	}
	// Cross is told only when the segment behind the gap was read and is good (endCrossing): the gap may grow until then.
	w.gap = &Crossing{Gap: lost.Gap, Since: w.arrived, Causes: lost.Causes}
	w.After = lost.Last
	return true
}

// endCrossing ends a crossing at the segment behind the gap.
func (w *Walk) endCrossing(m *segments.Manifest) error {
	if w.gap == nil {
		return nil
	}
	if err := w.Cross(w.gap.Gap); err != nil {
		return errUse{err}
	}
	w.gap.Until, w.gap.Reason = m.FirstTime, m.Reason
	w.Crossed, w.gap = append(w.Crossed, *w.gap), nil
	return nil
}
