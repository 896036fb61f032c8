package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/internal/bytesize"
	"github.com/snapshotd/snapshotd/snapshot"
)

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
		v.find(Attention, []string{"list"}, "The catalog has records that cannot be read, at least %d, so that this verdict "+
			"is not of their snapshots. One of them: %s. This command names each, and what to do.",
			n, stopless(v.known.Bad[0].Error()))
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
	for _, rec := range v.known.seen() {
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
		v.find(Attention, []string{"get", v.newest.Name}, "The newest snapshot, %s, %s.",
			v.newest.Name, snapshot.AlarmNote(v.newest.Alarms))
	}
}

// lastSave finds how the last save ended, and whether what it stored was found damaged since.
func (v *verdict) lastSave() {
	if v.last == nil {
		return
	}
	switch saved := v.last.AsSaved(); {
	case saved.State() == snapshot.StateFailed:
		v.find(NotSafe, []string{"save"}, "The last save failed: %s", why(v.last))
	case saved.State() == snapshot.StatePartial:
		v.find(Attention, repair, "The last save did not reach every backend: %s", why(v.last))
	case v.last.State() == snapshot.StateFailed:
		v.find(NotSafe, []string{"save"}, "The newest snapshot, %s, is damaged: %s", v.last.Name, why(v.last))
	case v.last.State() == snapshot.StatePartial:
		v.find(Attention, repair, "A copy of the newest snapshot, %s, is damaged: %s", v.last.Name, why(v.last))
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
			v.find(Attention, append(slices.Clip(repair), "--backend", b.Name), "%s holds none of the snapshots that were "+
				"examined. This command copies all to it that its retention would keep.", b.Name)
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
