package local

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// Position is how far a history is in the journal. The zero value is before any history.
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
}

const positionFile = "position"

// readPosition returns the position that was noted when a part was sealed. A note that cannot be read is none: the
// parts and the backends say the same.
func readPosition(dir string) note {
	var p note
	doc, err := os.ReadFile(filepath.Join(dir, positionFile))
	if err != nil || json.Unmarshal(doc, &p) != nil || !p.Timeline.Valid() ||
		p.Revision <= 0 || p.Anchor <= 0 || p.Anchor > p.Revision || p.Part < 0 {
		return note{}
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
		return p.Timeline.Start().After(than.Timeline.Start())
	}
	return p.Revision > than.Revision
}

// add takes an entry into account.
func add(h *segment.Header, e segment.Entry) error {
	if r, ok := e.(segment.Revision); ok {
		after := max(h.Last, h.Previous)
		if r.Main <= after || h.First > 0 && r.Main != after+1 {
			return errors.New("a revision does not follow the one before it")
		}
		if h.First == 0 {
			h.First, h.FirstTime = r.Main, r.Time
		}
		h.Last, h.LastTime, h.Chain = r.Main, r.Time, h.Chain.Next(r)
		h.Records += int64(len(r.Records))
	}
	h.Entries++
	return nil
}
