package local

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Position is how far a history is in the journal. The zero value is before any history. Newer compares two of them by
// name and number alone; whether they are of one history is shown by their chains.
type Position struct {
	Timeline segment.Timeline `json:"timeline"`
	Revision int64            `json:"revision,string"` // the newest
	Chain    segment.Chain    `json:"chain"`           // after it

	// Anchor is the revision from which the history is read again to see whether it is still the same: the chain goes from
	// AnchorChain, before it, to Chain.
	Anchor      int64         `json:"anchor,string"`
	AnchorChain segment.Chain `json:"anchorChain"`
}

// note is the position that is noted when a part is sealed. It is needed when that part is gone: the backends have it.
type note struct {
	Position
	Part int64 `json:"part,string"` // the number
	// Oldest is the number of the oldest part that was not removed: those before it are not missed. In the notes of
	// versions that did not note it, no part is missed.
	Oldest int64 `json:"oldest,string"`
}

// positionFile has no number and no suffix of a part, so that a survey passes it over.
const positionFile = "position"

// readPosition returns the position that was noted when a part was sealed. A note that cannot be read is none: the
// parts and the backends say the same.
func readPosition(dir string) note {
	// It tells a note without the field, of an older version, from one that has 0 in it.
	p := note{Oldest: -1}
	doc, err := os.ReadFile(filepath.Join(dir, positionFile))
	if err != nil || json.Unmarshal(doc, &p) != nil || !p.Timeline.Valid() ||
		p.Revision <= 0 || p.Anchor <= 0 || p.Anchor > p.Revision || p.Part < 0 {
		return note{}
	}
	if p.Oldest < 0 {
		p.Oldest = p.Part + 1
	}
	return p
}

func writePosition(dir string, p note) error {
	doc, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, positionFile), append(doc, '\n'))
}

// Newer reports whether a position is beyond another one: on a later timeline, or further on the same.
func (p Position) Newer(than Position) bool {
	if p.Timeline != than.Timeline {
		return p.Timeline.Later(than.Timeline)
	}
	return p.Revision > than.Revision
}

// Ahead reports whether a timeline begins in the future, by more than clocks may differ: a clock that was wrong has
// named it. It counts as none, because no snapshot that is taken now could be of it.
func Ahead(t segment.Timeline) bool { return snapshot.Ahead(t.Start(), time.Now()) }

// Arrival returns the time of a revision that arrives now. Within a timeline, times do not go back where clocks differ
// by no more than they may, or one was set: a time is looked for by halves.
func Arrival(now, last time.Time) time.Time {
	if behind := last.Sub(now); behind > 0 && behind <= snapshot.ClockTolerance {
		return last
	}
	return now
}
