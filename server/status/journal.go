package status

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// journal finds places where the journal is behind, or damaged.
func (v *verdict) journal() {
	for _, p := range v.points() {
		if p.Damaged > 0 {
			v.find(Attention, []string{"window"}, "%d segments of the journal on backend %s are damaged, or not trusted. The "+
				"next repair replaces them, within 20 min, if another backend has their revisions. The log of the replica that "+
				"found them names them.",
				p.Damaged, p.Backend)
		}
		if p.Age < snapshot.JournalBehind {
			continue
		}
		where, why := "the disk of the leading replica", "its log says why etcd is not followed"
		if p.Backend != "" {
			where, why = "backend "+p.Backend, "what waits on the leader's disk is uploaded once the backend takes it"
		}
		if p.Error != "" {
			why = p.Error
		}
		v.find(Attention, []string{"window"}, "The journal is %s behind on %s: %s.", p.Age.Round(time.Second), where,
			strings.TrimSuffix(why, "."))
	}
}

// journalProof finds that the journal does not make the newest snapshot before which it was checked.
func (v *verdict) journalProof() {
	for _, rec := range v.records {
		p := rec.JournalProof
		if p == nil {
			continue
		}
		if !p.Passed {
			v.find(Attention, []string{"window"}, "The journal does not lead to %s: revisions between it and the snapshot "+
				"before cannot be relied on, those of each snapshot can. %s", rec.Name, p.Error)
		}
		return
	}
}

// journalDrill finds that a revision could not be restored in the last drill. It is told until a later one is restored,
// or that one is out of reach: its snapshot is gone, or the journal is not kept so long.
func (v *verdict) journalDrill() {
	j := v.known.Journal
	if j == nil || j.Notes.Drill == nil || j.Notes.Drill.Verdict.Passed {
		return
	}
	d := j.Notes.Drill
	ago := max(0, v.now.Sub(d.Verdict.Time))
	there := slices.ContainsFunc(v.records, func(rec *snapshot.Record) bool {
		return rec.Name == d.Base && wholeCopy(rec) != nil
	})
	if !there && v.known.All || j.Kept > 0 && ago > j.Kept {
		return
	}
	do := []string{"window"}
	if there {
		do = v.known.rehearsing(d.Base, d.Revision)
	}
	v.find(Attention, do, "Revision %d could not be restored, in a drill %s ago, from %s and the journal. Restores to "+
		"revisions around it cannot be relied on, those to snapshots can. It is told until a drill of the scrub has "+
		"restored another revision. %s",
		d.Revision, round(ago), d.Base, d.Verdict.Error)
}

// breakTold is how long a break of the journal needs attention. Nothing brings the revisions back, so a person is to
// see it once, and a day is how long that may take. The alerts tell it for an hour. After the day it is information for
// as long as there is something to restore before it.
const breakTold = 24 * time.Hour

// breaks finds where the journal does not go on: the newest of each kind, and how many others of it there are.
func (v *verdict) breaks() {
	j := v.known.Journal
	if j == nil {
		return
	}
	if j.NotesErr != nil {
		v.find(Attention, []string{"window"}, "It is not known whether the journal has gaps, or etcd was restored under "+
			"it: %s.", stopless(j.NotesErr.Error()))
	}
	var histories, gaps, losses, beginnings []snapshot.JournalBreak // the oldest first
	for _, b := range j.Notes.Breaks {
		v.narrow(&b)
		switch {
		case b.BeforeTime.After(v.now.Add(snapshot.ClockTolerance)) || !v.restorableBefore(&b):
		case b.OtherHistory:
			histories = append(histories, b)
		case b.Backend != "":
			losses = append(losses, b)
		case b.Lost() > 0 || b.Unknown() && !strings.HasPrefix(b.Reason, "overtaken:"): // by a replica that has them
			gaps = append(gaps, b)
		default:
			beginnings = append(beginnings, b)
		}
	}
	v.otherHistory(histories)
	v.gaps(gaps)
	v.lost(losses)
	v.begunAnew(beginnings)
}

// narrow ends a gap where a snapshot begins to hold the revisions: these are not lost. A window does the same.
func (v *verdict) narrow(b *snapshot.JournalBreak) {
	if b.Lost() == 0 || b.Backend != "" {
		return
	}
	for _, rec := range v.records {
		holds := rec.OldestRevision > 0 && rec.OldestRevision < b.Before && rec.Revision >= b.Before-1
		same := strings.HasPrefix(b.Timeline, rec.EtcdClusterID+"-") && rec.CreateTime.After(b.AfterTime)
		if holds && same && wholeCopy(rec) != nil {
			b.Before = max(b.After+1, rec.OldestRevision)
		}
	}
}

// restorableBefore reports whether something before a break can still be restored, as far as that is known.
func (v *verdict) restorableBefore(b *snapshot.JournalBreak) bool {
	if kept := v.known.Journal.Kept; kept > 0 {
		return v.now.Sub(b.BeforeTime) <= kept
	}
	before := func(rec *snapshot.Record) bool { return wholeCopy(rec) != nil && !rec.CreateTime.After(b.BeforeTime) }
	return !v.known.All || v.young(b) || slices.ContainsFunc(v.records, before)
}

// young reports whether a break needs attention.
func (v *verdict) young(b *snapshot.JournalBreak) bool { return v.now.Sub(b.BeforeTime) < breakTold }

// urgency is that of a break that lies so far back.
func (v *verdict) urgency(b *snapshot.JournalBreak) Verdict {
	if v.young(b) {
		return Attention
	}
	return Safe
}

// otherHistory finds that etcd was restored under the journal.
func (v *verdict) otherHistory(all []snapshot.JournalBreak) {
	if len(all) == 0 {
		return
	}
	b := &all[len(all)-1]
	v.find(v.urgency(b), []string{"window"}, "etcd has another history since %s. Reason: %s.%s To restore the history "+
		"before, give --at with a time before that, or the name of a snapshot. A --revision that is in both is refused.",
		minute(b.BeforeTime), stopless(b.Reason), earlier(len(all)-1, "history", "histories"))
}

// gaps finds that revisions are lost.
func (v *verdict) gaps(all []snapshot.JournalBreak) {
	if len(all) == 0 {
		return
	}
	b := &all[len(all)-1]
	how, do, more := v.urgency(b), []string{"window"}, earlier(len(all)-1, "gap", "gaps")
	if !v.restorableBehind(b) {
		how, do, more = Attention, []string{"save"}, more+" Nothing behind the gap can be restored until the next snapshot."
	}
	v.find(how, do, "The journal has a gap: %s cannot be restored. Reason: %s.%s",
		lostRevisions(b), stopless(b.Reason), more)
}

// restorableBehind reports whether there is a snapshot behind a gap, to which the journal can be added. One that came
// after the gap was found may have a lower revision: etcd was restored meanwhile.
func (v *verdict) restorableBehind(b *snapshot.JournalBreak) bool {
	return slices.ContainsFunc(v.records, func(rec *snapshot.Record) bool {
		behind := rec.CreateTime.After(b.BeforeTime) || rec.Revision >= b.Before-1 && rec.CreateTime.After(b.AfterTime)
		return wholeCopy(rec) != nil && behind
	})
}

// lost finds that a backend had no room in time for revisions. Its copies are repaired, so this tells of the past.
func (v *verdict) lost(all []snapshot.JournalBreak) {
	if len(all) == 0 {
		return
	}
	b := &all[len(all)-1]
	v.find(v.urgency(b), repair, "Backend %s had lost %s. The leader copies them from another backend that has them. "+
		"Reason: %s.%s",
		b.Backend, lostRevisions(b), stopless(b.Reason), earlier(len(all)-1, "loss", "losses"))
}

// begunAnew finds that the journal was interrupted, and that everything can be restored all the same, as far as is
// known.
func (v *verdict) begunAnew(all []snapshot.JournalBreak) {
	if len(all) == 0 {
		return
	}
	b, whole := &all[len(all)-1], ", and no revision is missing"
	if b.Unknown() {
		whole = ""
	}
	v.find(v.urgency(b), []string{"window"}, "The journal began anew at %s%s. Reason: %s.%s",
		minute(b.BeforeTime), whole, stopless(b.Reason), earlier(len(all)-1, "beginning", "beginnings"))
}

// earlier says that there are others before the one that is told; nothing when there are none.
func earlier(n int, one, several string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " There is 1 earlier " + one + "."
	}
	return fmt.Sprintf(" There are %d earlier %s.", n, several)
}

// lostRevisions names the revisions of a gap, and their times as far as they are known.
func lostRevisions(b *snapshot.JournalBreak) string {
	first, last := strconv.FormatInt(b.After+1, 10), strconv.FormatInt(b.Before-1, 10)
	text := ""
	switch {
	case b.After == 0 && b.Before == 0:
		return "revisions that are not known"
	case b.After == 0:
		return "an unknown number of revisions before " + strconv.FormatInt(b.Before, 10)
	case b.Before == 0:
		text = "revisions from " + first + " on"
	case first == last:
		text = "revision " + first
	default:
		text = "revisions " + first + " to " + last
	}
	if b.AfterTime.IsZero() || b.BeforeTime.IsZero() {
		return text
	}
	return text + fmt.Sprintf(" (%s to %s)", minute(b.AfterTime), minute(b.BeforeTime))
}
