package restoring

import (
	"fmt"
	"io"
	"strings"

	"github.com/snapshotd/snapshotd/internal/cli/output"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/journal/segment"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// maxGaps is how many gaps of a journal are written out.
const maxGaps = 5

// journalTable writes to which revision the journal leads, over what, and what is not the state of that revision.
func (o *pastOptions) journalTable(w io.Writer, r *restore.Replayed) {
	if len(r.Segments) == 0 {
		fmt.Fprintf(w, "journal    %s: the snapshot is of this revision, and no segment is needed\n", r.Timeline)
	} else {
		fmt.Fprintf(w, "journal    %s: %s, %s, from revision %d of the snapshot to %d\n",
			r.Timeline, SegmentCount(r), output.Size(r.Bytes), r.Base, r.Revision)
	}
	crossedTable(w, r.Crossed)
	others := r.Others()
	for i, g := range others {
		if i == maxGaps {
			fmt.Fprintf(w, "           and %d gaps more\n", len(others)-maxGaps)
			break
		}
		fmt.Fprintf(w, "           a GAP elsewhere in it: %s are lost\n", g)
	}
	if r.Moment != nil {
		momentTable(w, r.Moment)
	}
	fmt.Fprintf(w, "revision   %d, %s keys\n", r.Revision, output.Count(r.TotalKeys))
	if r.Compacted > 0 {
		fmt.Fprintf(w, "compacted  up to revision %d, as the cluster was then\n", r.Compacted)
	}
	fmt.Fprintf(w, "leases     with keys: %d, each with its whole time to live; without keys: %d, as far as they were "+
		"seen\n", r.Leases.Exact, r.Leases.Keyless)
	for _, t := range r.Leases.From {
		fmt.Fprintf(w, "           some times to live are of the journal %s, which follows: etcd was asked for them there\n",
			t)
	}
	switch n := r.Leases.Estimated; {
	case n > 0 && o.ended > 0:
		fmt.Fprintf(w, "           %s more ended before etcd was asked for their time to live: "+
			"ESTIMATED, %s (--ended-lease-ttl), for %s keys\n",
			output.Number(n), output.Took(o.ended), output.Number(r.Leases.Keys))
	case n > 0:
		fmt.Fprintf(w, "           %s more ended before etcd was asked for their time to live: "+
			"NOT made, so that %s keys stay until they are deleted\n",
			output.Number(n), output.Number(r.Leases.Keys))
	}
	switch {
	case r.AuthBehind:
		fmt.Fprintln(w, "not given  users and roles are those of the snapshot: "+
			"they HAVE CHANGED between it and this revision; alarms are its, too")
	case r.Crossed != nil:
		fmt.Fprintln(w, "not given  users, roles and alarms are those of the snapshot; "+
			"whether they changed in a gap is not known")
	default:
		fmt.Fprintln(w, "not given  users, roles and alarms are those of the snapshot")
	}
}

// crossedTable writes which gaps were crossed, and what is right behind them.
func crossedTable(w io.Writer, c *restore.Crossed) {
	if c == nil {
		return
	}
	for i, g := range c.Gaps {
		if i == maxGaps {
			fmt.Fprintf(w, "           and %d gaps more were CROSSED\n", len(c.Gaps)-maxGaps)
			break
		}
		fmt.Fprintf(w, "CROSSED    %s LOST, %s: %s\n", g.Gap, between(g), g.Why())
	}
	fmt.Fprintf(w, "           right are the %s keys that were written behind it; "+
		"%s of them had been changed in it, too\n", output.Count(c.Written), output.Count(c.Changed))
	fmt.Fprintln(w, "           all others have the value of before it: "+
		"if they were changed or deleted in it, that is lost")
}

// between says when a gap was.
func between(g plan.Crossing) string {
	if g.Since.IsZero() {
		return "before " + output.Exact(g.Until)
	}
	return "between " + output.Exact(g.Since) + " and " + output.Exact(g.Until)
}

// crossedWarning warns of the state that crossing gaps has made.
func crossedWarning(w io.Writer, c *restore.Crossed) {
	if c == nil {
		return
	}
	var all []string
	for _, g := range c.Gaps[:min(maxGaps, len(c.Gaps))] {
		all = append(all, g.String())
	}
	if more := len(c.Gaps) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("those of %d gaps more", more))
	}
	fmt.Fprintf(w, "warning: --cross-gaps: the cluster NEVER HAD THIS STATE, lost: %s. "+
		"A key that was changed or deleted there, and not written since, has its old value\n", strings.Join(all, ", "))
}

// crossedGaps are the gaps for a program.
func crossedGaps(r *restore.Replayed) []*snapshotdv1.RecoveryWindow_Gap {
	var all []*snapshotdv1.RecoveryWindow_Gap
	for _, g := range r.Crossed.Gaps {
		all = append(all, &snapshotdv1.RecoveryWindow_Gap{
			AfterRevision: g.First - 1, BeforeRevision: g.Last + 1,
			AfterTime: wire.Time(g.Since), BeforeTime: wire.Time(g.Until),
			Reason: g.Why(), Timeline: string(r.Timeline),
		})
	}
	return all
}

// SegmentCount says how many segments of which level are used: 3 segments (2 × 5m, 1 × 10s).
func SegmentCount(r *restore.Replayed) string {
	var parts []string
	for _, l := range segment.Levels() {
		n := 0
		for _, s := range r.Segments {
			if s.Level == l {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d × %s", n, l))
		}
	}
	if len(r.Segments) == 1 {
		return "1 segment of " + string(r.Segments[0].Level)
	}
	return fmt.Sprintf("%d segments (%s)", len(r.Segments), strings.Join(parts, ", "))
}

// momentTable writes what the journal proves of a time.
func momentTable(w io.Writer, m *plan.Moment) {
	upper := "an unknown one"
	if m.Upper > 0 {
		upper = fmt.Sprint(m.Upper)
	}
	fmt.Fprintf(w, "time       at %s the revision was between %d, which arrived at %s, and %s\n",
		output.Exact(m.Time), m.Revision, output.Exact(m.Arrived), upper)
	switch {
	case m.Gap != nil:
		fmt.Fprintf(w, "           %s behind it are LOST: the cluster may have had them then\n", m.Gap)
	case m.Upper == 0 && m.Complete.IsZero():
		fmt.Fprintln(w, "           the journal ends there: later changes are not in it")
	case m.Upper == 0:
		fmt.Fprintf(w, "           the journal ends there, and is proven to be complete up to %s: "+
			"later changes are not in it\n", output.Exact(m.Complete))
	case m.Upper > m.Revision:
		fmt.Fprintln(w, "           nothing of a later time is restored; --revision takes another one between the two")
	}
}
