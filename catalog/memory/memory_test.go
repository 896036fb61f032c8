package memory_test

import (
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/catalog/conformance"
	"github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, func(*testing.T) conformance.Catalog {
		c := memory.New(nil)
		return conformance.Catalog{
			Records: c, Saves: c, History: c, Stores: c, ExpireLocks: c.ExpireLock, Compact: c.Compact,
			Spoil: c.Spoil, Wipe: c.Wipe,
		}
	})
}

// A catalog that was made anew does not take the positions of the one before it for its own.
func TestFollowingExpiresInAnotherHistory(t *testing.T) {
	made := time.Unix(1700000000, 0)
	first := memory.New(func() time.Time { return made })
	second := memory.New(func() time.Time { return made.Add(time.Hour) })
	for _, c := range []*memory.Catalog{first, second} {
		if err := c.Create(t.Context(), conformance.Record("a", 0)); err != nil {
			t.Fatal(err)
		}
	}
	var at snapshot.Position
	for ch, err := range first.Changes(t.Context(), snapshot.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		at = ch.Position
		break
	}
	for want, c := range map[bool]*memory.Catalog{false: first, true: second} {
		for _, err := range c.Changes(t.Context(), at) {
			if expired := snapshot.ReasonOf(err) == snapshot.ReasonWatchExpired; expired != want || !want && err != nil {
				t.Errorf("the position is expired: %v, want %v (%v)", expired, want, err)
			}
			break
		}
	}
}
