package output

import (
	"fmt"
	"io"
	"time"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// WindowTable writes which revisions can be restored, what is lost, and how much of the newest would be. wide adds the
// snapshots by themselves, and what is only estimated.
func WindowTable(w io.Writer, resp *snapshotdv1.GetRecoveryWindowResponse, wide bool) error {
	win := resp.GetWindow()
	if err := windowRanges(w, win); err != nil {
		return err
	}
	for _, g := range win.GetGaps() {
		fmt.Fprintf(w, "\nLost: revisions %d to %d, %s to %s: %s\n", g.GetAfterRevision()+1, g.GetBeforeRevision()-1,
			moment(g.GetAfterTime()), moment(g.GetBeforeTime()), Plain(g.GetReason()))
	}
	for _, t := range win.GetTimelines() {
		if t.GetReason() != "" {
			fmt.Fprintf(w, "\nTimeline %s began at %s: %s\n", Plain(t.GetName()), moment(t.GetStartTime()), Plain(t.GetReason()))
		}
	}
	if points := win.GetRecoveryPoints(); len(points) > 0 {
		fmt.Fprintln(w)
		err := Columns(w, func(row func(...string)) {
			row("IF LOST", "CHANGES OF THE LAST", "LAST ERROR")
			for _, p := range points {
				row(place(p), Took(p.GetAge().AsDuration()), OrDash(p.GetError()))
			}
		})
		if err != nil {
			return err
		}
	}
	windowLag(w, win)
	windowProof(w, win)
	windowDrill(w, win.GetDrill())
	for _, u := range win.GetUnread() {
		fmt.Fprintf(w, "\nNot read: %s\n", Plain(u))
	}
	if !wide {
		return nil
	}
	return windowDetails(w, win)
}

// JournalRemovals writes which segments of the journal go, a line for each backend and timeline.
func JournalRemovals(w io.Writer, all []*snapshotdv1.JournalRemoval) error {
	for _, r := range all {
		text := fmt.Sprintf("journal on %s: %d segments (%s) with the revisions %d to %d of %s go: %s",
			r.GetBackend(), r.GetSegments(),
			Size(r.GetSizeBytes()), r.GetFirstRevision(), r.GetLastRevision(), r.GetTimeline(), r.GetWhy())
		if r.GetError() != nil {
			text = "journal: it is not known which segments go: " + r.GetError().GetMessage()
		}
		if _, err := fmt.Fprintln(w, Plain(text)); err != nil {
			return err
		}
	}
	return nil
}

// windowProof writes what was found when the journal was checked last.
func windowProof(w io.Writer, win *snapshotdv1.RecoveryWindow) {
	for _, s := range win.GetSnapshots() { // the newest first
		p := s.GetJournalProof()
		if p == nil {
			continue
		}
		verdict := "leads " + Plain(p.GetLive()) + " to"
		if p.GetState() != snapshotdv1.Verification_STATE_PASSED {
			verdict = "does NOT lead to"
		}
		fmt.Fprintf(w, "\nChecked: the journal %s %s, revision %d (%s)\n", verdict, s.GetName(), s.GetRevision(),
			moment(p.GetTime()))
		if p.GetError() != "" {
			fmt.Fprintf(w, "  %s\n", Plain(p.GetError()))
		}
		break
	}
}

// windowLag writes how far the journal is behind etcd, where that is known, and how far back it is kept.
func windowLag(w io.Writer, win *snapshotdv1.RecoveryWindow) {
	switch {
	case win.LagRevisions != nil:
		fmt.Fprintf(w, "\nLag: %d revisions behind %s\n", win.GetLagRevisions(), Plain(win.GetEndpoint()))
	case len(win.GetRecoveryPoints()) > 0:
		fmt.Fprint(w, "\nLag: not known, etcd is not followed now\n")
	}
	if kept := win.GetKept(); kept != nil {
		fmt.Fprintf(w, "\nKept: the journal of the last %s, and what leads to its beginning\n", Age(kept.AsDuration()))
	}
}

// windowDrill writes how the last drill of a revision has ended.
func windowDrill(w io.Writer, d *snapshotdv1.RecoveryWindow_Drill) {
	if d == nil {
		return
	}
	verdict := "was restored"
	if d.GetVerdict().GetState() != snapshotdv1.Verification_STATE_PASSED {
		verdict = "could NOT be restored"
	}
	fmt.Fprintf(w, "\nDrilled: revision %d of %s %s, from %s (%s)\n", d.GetRevision(), Plain(d.GetTimeline()), verdict,
		Plain(d.GetBase()), moment(d.GetVerdict().GetTime()))
	if d.GetVerdict().GetError() != "" {
		fmt.Fprintf(w, "  %s\n", Plain(d.GetVerdict().GetError()))
	}
}

// windowRanges writes a line for each range, the newest first: that is what most callers look for.
func windowRanges(w io.Writer, win *snapshotdv1.RecoveryWindow) error {
	if !win.GetJournaled() {
		fmt.Fprintln(w, "The cluster has no journal: it can be restored to the revisions that its snapshots hold (-o wide).")
		return nil
	}
	if len(win.GetTimelines()) == 0 {
		empty := "The journal holds nothing yet."
		if len(win.GetUnread()) > 0 {
			empty = "Nothing of the journal could be read: it is not known what can be restored from it."
		}
		fmt.Fprintln(w, empty)
		return nil
	}
	return Columns(w, func(row func(...string)) {
		row("RESTORABLE FROM", "TO", "TIME OF TO", "COMPLETE TO", "BASE", "TIMELINE")
		timelines := win.GetTimelines()
		for i := len(timelines) - 1; i >= 0; i-- {
			ranges := timelines[i].GetRanges()
			for j := len(ranges) - 1; j >= 0; j-- {
				r := ranges[j]
				from := Number(r.GetRestorableFromRevision())
				if r.GetRestorableFromRevision() == 0 {
					from = fmt.Sprintf("no snapshot (%d)", r.GetFirstRevision())
				}
				row(from, Number(r.GetLastRevision()), moment(r.GetLastTime()), moment(r.GetCompleteTime()), OrDash(r.GetBase()),
					timelines[i].GetName())
			}
		}
	})
}

func windowDetails(w io.Writer, win *snapshotdv1.RecoveryWindow) error {
	fmt.Fprintln(w)
	err := Columns(w, func(row func(...string)) {
		row("SNAPSHOT", "HOLDS FROM", "TO", "CREATED")
		for _, s := range win.GetSnapshots() {
			row(s.GetName(), Number(s.GetOldestRevision()), Number(s.GetRevision()), moment(s.GetCreateTime()))
		}
	})
	if err != nil || len(win.GetEstimates()) == 0 {
		return err
	}
	fmt.Fprintln(w)
	for _, e := range win.GetEstimates() {
		fmt.Fprintf(w, "%s\n", Plain(e))
	}
	return nil
}

// place returns the loss that a recovery point is about.
func place(p *snapshotdv1.RecoveryWindow_RecoveryPoint) string {
	if p.GetBackend() == "" {
		return "the process"
	}
	return "all but " + p.GetBackend()
}

// moment returns a time to the second; "-" for none.
func moment(t timestamp) string {
	if !t.IsValid() {
		return "-"
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}
