package keeping

import (
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Points returns how far the journal is on this machine's disk and on each backend, all by one look, so that they can
// be compared with each other.
func (k *Keeper) Points(s journal.Status) []snapshot.RecoveryPoint {
	all := []snapshot.RecoveryPoint{{Age: time.Since(s.Complete)}}
	for _, b := range s.Stores {
		p := snapshot.RecoveryPoint{
			Backend: b.Name, Age: time.Since(b.Complete), Damaged: k.copies.State(b.Name).Damaged,
		}
		if b.Err != nil {
			p.Error = b.Err.Error()
		}
		all = append(all, p)
	}
	return all
}

// trouble returns what a leader notes for the other replicas of how far the journal is: where it is behind or damaged.
// Of a place that has never been complete, the age is the greatest that there is. Ages while all is well are left out:
// they change all the time, and each change would be one of the catalog.
func trouble(node string, points []snapshot.RecoveryPoint, now time.Time) *snapshot.JournalTrouble {
	t := &snapshot.JournalTrouble{Node: node}
	for _, p := range points {
		at := snapshot.JournalPoint{Backend: p.Backend, Error: p.Error, Damaged: p.Damaged}
		if p.Age >= snapshot.JournalBehind {
			at.Complete = now.Add(-p.Age)
		}
		if !at.Complete.IsZero() || at.Damaged > 0 {
			t.Points = append(t.Points, at)
		}
	}
	return t
}
