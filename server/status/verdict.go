package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/bytesize"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Judge returns the verdict on a cluster, with the facts that it is based on.
func Judge(k Known) Cluster {
	v := &verdict{known: &k, records: k.Records, now: k.Now, c: Cluster{
		Name: k.Name, Verdict: Safe, Findings: []Finding{}, Examined: len(k.Records), All: k.All, Moving: k.Moving,
		Journal: k.Journal, Store: k.Store,
	}}
	if k.Leader != nil {
		v.c.Leader = *k.Leader
	}
	v.tally = k.tally()
	v.c.Removals = v.tally.Removals
	for _, p := range k.Places {
		v.c.Backends = append(v.c.Backends, v.backend(p))
	}
	if k.Err != nil {
		v.unreadable()
		return v.c
	}
	v.facts()
	v.restorable()
	v.unread()
	v.missing()
	v.failedVerification()
	v.alarms()
	v.lastSave()
	v.backends()
	v.unreconciled()
	v.schedules()
	v.unscheduled()
	v.leader()
	v.scrub()
	v.certificates()
	v.journal()
	v.breaks()
	v.journalProof()
	v.journalDrill()
	v.proof()
	rank := []Verdict{NotSafe, Attention, Safe}
	slices.SortStableFunc(v.c.Findings, func(a, b Finding) int {
		return slices.Index(rank, a.Verdict) - slices.Index(rank, b.Verdict)
	})
	if len(v.c.Findings) > 0 {
		v.c.Verdict = v.c.Findings[0].Verdict
	}
	return v.c
}

// unreadable finds that the catalog cannot be read, or was not asked. The configuration still says where the snapshots
// are.
func (v *verdict) unreadable() {
	v.c.Verdict = Unknown
	for _, s := range v.known.Schedules {
		v.c.Schedules = append(v.c.Schedules, ScheduleState{Name: s.Name, Cron: s.Cron, TimeZone: s.TimeZone, Next: s.Next(v.now)})
	}
	if v.known.NotAsked {
		v.find(Unknown, []string{"status"}, "The catalog was not asked, so nothing is known here: %v. This command asks it.", v.known.Err)
	} else {
		v.find(Unknown, v.known.listing(), "The catalog cannot be read, so nothing is known here: %v. "+
			"Saves and restores work without it, and this command lists the snapshots on a backend.", v.known.Err)
		v.find(Unknown, v.known.restoring(), "This command says how the newest snapshot would be restored, to the directory DIR; "+
			"without --dry-run it is. Directories are those of the service's machine: on another one, leave them out.")
	}
	v.certificates() // one that has expired may be the reason
}

// verdict is a verdict in the making.
type verdict struct {
	c       Cluster
	known   *Known
	records []*snapshot.Record
	now     time.Time
	tally   Tally
	last    *snapshot.Record // the newest whose save has ended
	newest  *snapshot.Record // the newest that has a READY copy anywhere
	undated *snapshot.Record // one that was proven by a replica whose clock was ahead: nobody knows when
}

// repair are the arguments of the command that makes missing copies.
var repair = []string{"reconcile", "--repair"}

// find adds a finding: how bad it is, the command that helps, and the text.
func (v *verdict) find(how Verdict, do []string, format string, args ...any) {
	v.c.Findings = append(v.c.Findings, Finding{Verdict: how, Text: fmt.Sprintf(format, args...), Do: do})
}

// facts takes the facts that are shown from the records.
func (v *verdict) facts() {
	for _, rec := range v.records {
		if rec.State() == snapshot.StateSaving && v.c.Saving == nil {
			v.c.Saving = rec
		}
		if ended(rec) && v.last == nil {
			v.last, v.c.LastSave = rec, rec
		}
		if wholeCopy(rec) == nil {
			continue
		}
		if v.newest == nil {
			v.newest = rec
		}
		if rec.State() == snapshot.StateReady && !failedVerification(rec) && v.c.Newest == nil {
			v.c.Newest = rec
		}
		v.countProof(rec)
	}
}

// countProof takes the newest proof. One that a clock was ahead for would hide that there is none for as long.
func (v *verdict) countProof(rec *snapshot.Record) {
	switch at := rec.Proven(); {
	case at.IsZero():
	case snapshot.Ahead(at, v.now):
		v.undated = rec
	case v.c.Proven == nil || at.After(v.c.Proven.Proven()):
		v.c.Proven = rec
	}
}

// restorable finds whether there is a snapshot to restore.
func (v *verdict) restorable() {
	among := ""
	switch {
	case len(v.known.Bad) > 0:
		among = fmt.Sprintf(" among the %d that could be read", v.c.Examined)
	case !v.c.All:
		among = fmt.Sprintf(" among the newest %d", v.c.Examined)
	}
	switch {
	case v.newest == nil && len(v.records) > 0 && v.records[0].FallbackNode() != "":
		v.find(NotSafe, repair, "No backend holds a snapshot%s; one is on the disk of %s alone.",
			among, v.records[0].FallbackNode())
	case v.newest == nil && v.c.Saving != nil:
		v.find(NotSafe, []string{"watch"}, "There is no snapshot that could be restored%s; one is being saved.", among)
	case v.newest == nil:
		v.find(NotSafe, []string{"save"}, "There is no snapshot that could be restored%s.", among)
	case disproved(v.newest):
		v.find(NotSafe, []string{"save"}, "The newest snapshot, %s, did not pass its verification: %s",
			v.newest.Name, v.newest.Verification.Error)
	case v.c.Newest == nil:
		v.find(Attention, repair, "No snapshot%s is on all of its backends; the newest that can be restored is %s.",
			among, v.newest.Name)
	}
}

// unread finds that there are records of which the verdict knows nothing.
func (v *verdict) unread() {
	if n := len(v.known.Bad); n > 0 {
		v.find(Attention, []string{"list"}, "The catalog has records that cannot be read, at least %d, so that this verdict is not of "+
			"their snapshots. One of them: %s. This command names each, and what to do.", n, stopless(v.known.Bad[0].Error()))
	}
}

// missing finds that leader, schedules or scrub could not be read: nothing is found of them then.
func (v *verdict) missing() {
	if err := v.known.FactErr; err != nil {
		v.find(Attention, []string{"status"}, "It is not known %s. This command asks again.", stopless(err.Error()))
	}
}

// failedVerification finds the newest snapshot that did not pass its verification; the list shows the others.
func (v *verdict) failedVerification() {
	for _, rec := range v.records {
		if failedVerification(rec) && (rec != v.newest || !disproved(rec)) {
			v.find(Attention, []string{"verify", rec.Name},
				"%s did not pass its last verification, and none since was: %s. Verify it again when its copies were repaired; "+
					"delete it when it does not pass.", rec.Name, strings.TrimSuffix(rec.Verification.Error, "."))
			return
		}
	}
}

// alarms finds alarms inside the newest snapshot: whoever restores it meets an etcd that refuses writes.
func (v *verdict) alarms() {
	if v.newest != nil && len(v.newest.Alarms) > 0 {
		v.find(Attention, []string{"get", v.newest.Name}, "The newest snapshot, %s, %s.", v.newest.Name, snapshot.AlarmNote(v.newest.Alarms))
	}
}

// lastSave finds how the last save ended.
func (v *verdict) lastSave() {
	switch {
	case v.last == nil:
	case v.last.State() == snapshot.StateFailed:
		v.find(NotSafe, []string{"save"}, "The last save failed: %s", why(v.last))
	case v.last.State() == snapshot.StatePartial:
		v.find(Attention, repair, "The last save did not reach every backend: %s", why(v.last))
	}
}

// backends finds the copies that are missing.
func (v *verdict) backends() {
	for _, b := range v.c.Backends {
		switch {
		case b.Waiting > 0:
			v.find(Attention, repair, "%s waiting to be brought to %s; it is tried again by itself.", copies(b.Waiting), b.Name)
		case b.Newest == nil && v.newest != nil && snapshot.NodeOf(b.Name) == "" && // another node may have led all the time
			v.awaits(b.Name):
			v.find(Attention, append(slices.Clip(repair), "--backend", b.Name), "%s holds none of the snapshots that were examined. "+
				"This command copies all to it that its retention would keep.", b.Name)
		case b.Free >= 0 && v.newest != nil && b.Free < 2*v.newest.StoredSize:
			v.find(Attention, []string{"prune", "--dry-run"}, "%s has room for less than two more snapshots: %s are free, "+
				"and the newest has %s.", b.Name, bytesize.Format(b.Free), bytesize.Format(v.newest.StoredSize))
		}
	}
}

func copies(n int) string {
	if n == 1 {
		return "1 copy is"
	}
	return fmt.Sprintf("%d copies are", n)
}

// round returns a duration with about two figures.
func round(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}
