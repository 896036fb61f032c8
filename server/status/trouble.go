package status

import (
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// journalBehind is how old the recovery point of a journal may be. It is seconds while all is well.
const journalBehind = 5 * time.Minute

// Trouble returns what a leader notes for the other replicas of how far the journal is: where it is behind or damaged.
func Trouble(node string, points []Point, now time.Time) *snapshot.JournalTrouble {
	t := &snapshot.JournalTrouble{Node: node}
	for _, p := range points {
		at := snapshot.JournalPoint{Backend: p.Backend, Error: p.Error, Damaged: p.Damaged}
		if p.Age >= journalBehind {
			at.Complete = now.Add(-p.Age)
		}
		if !at.Complete.IsZero() || at.Damaged > 0 {
			t.Points = append(t.Points, at)
		}
	}
	return t
}

// points returns how far the journal is: as this replica knows, if it is the one that follows, or else where it is behind
// or damaged, as the leader has noted it. What a leader before has noted is of the past.
func (v *verdict) points() (all []Point) {
	j := v.known.Journal
	switch {
	case j == nil:
		return nil
	case j.Following:
		return j.Points
	}
	leader, noted := v.known.Leader, j.Notes.Trouble
	if noted == nil || leader != nil && *leader != "" && *leader != noted.Node {
		return nil
	}
	for _, p := range noted.Points {
		at := Point{Backend: p.Backend, Error: p.Error, Damaged: p.Damaged}
		if !p.Complete.IsZero() {
			at.Age = v.now.Sub(p.Complete)
		}
		all = append(all, at)
	}
	return all
}
