package keeping

import (
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Point is how old the newest moment is that could be restored from a place.
type Point struct {
	Backend string // empty for this machine's disk
	Age     time.Duration
	Error   string // why the last upload failed; empty when it did not
	Damaged int64  // segments that are damaged there, as far as they were read back
}

// Points returns how far the journal is on this machine's disk and on each backend.
func (k *Keeper) Points(s journal.Status) []Point {
	all := []Point{{Age: time.Since(s.Complete)}}
	for _, b := range s.Stores {
		p := Point{Backend: b.Name, Age: time.Since(b.Complete), Damaged: k.copies.State(b.Name).Damaged}
		if b.Err != nil {
			p.Error = b.Err.Error()
		}
		all = append(all, p)
	}
	return all
}

// trouble returns what a leader notes for the other replicas of how far the journal is: where it is behind or damaged.
// Of a place that has never been complete, the age is the greatest that there is.
func trouble(node string, points []Point, now time.Time) *snapshot.JournalTrouble {
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
