package journal

import (
	"time"

	"github.com/snapshotd/snapshotd/journal/local"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// Filled notes that segments were copied to a backend from another one: from a snapshot that it has, they lead to a
// revision of a timeline. What it had lost before that is there again, without another snapshot.
func (j *Journal) Filled(backend string, t segment.Timeline, to int64) {
	for _, u := range j.stores {
		if u.store.Name() == backend {
			u.filled(t, to)
		}
	}
}

// filled ends a loss that ends at or before a revision. Revisions that were lost behind it still need a snapshot.
func (u *upload) filled(t segment.Timeline, to int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.lost.IsZero() && u.gap.Timeline == t && u.gap.Revision <= to {
		u.lost, u.gap, u.asked = time.Time{}, local.Position{}, false
	}
}
