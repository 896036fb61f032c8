package status

import "github.com/snapshotd/snapshotd/snapshot"

// points returns how far the journal is: as this replica knows, if it is the one that follows, or else where it is
// behind or damaged, as the leader has noted it. What a leader before has noted is of the past.
func (v *verdict) points() (all []snapshot.RecoveryPoint) {
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
		at := snapshot.RecoveryPoint{Backend: p.Backend, Error: p.Error, Damaged: p.Damaged}
		if !p.Complete.IsZero() {
			at.Age = v.now.Sub(p.Complete)
		}
		all = append(all, at)
	}
	return all
}
