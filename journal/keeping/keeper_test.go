package keeping

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
)

// A backend that is new is filled in many repairs. That is no error, and each one says what is left.
func TestAFillIsNoError(t *testing.T) {
	var log bytes.Buffer
	places := []upkeep.Place{newPlace("old", nil), newPlace("new", nil)}
	k := New(Config{
		Journal: journal.New(journal.Config{}), Places: places, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	k.copies.Budget = 1
	begin := time.Now().Add(-time.Hour)
	timeline := segment.NewTimeline(1, begin)
	h := segment.Header{Timeline: timeline, Level: segment.Level10s}
	for range 3 {
		s := store(t, places[0], h, h.Previous+1, begin)
		h.Previous, h.PreviousChain = s.Header.Last, s.Header.Chain
	}
	for i, want := range []bool{true, true, false} {
		log.Reset()
		if more := k.repair(t.Context(), timeline); more != want {
			t.Errorf("after repair %d, there is more: %v", i+1, more)
		}
		if strings.Contains(log.String(), "level=ERROR") || strings.Contains(log.String(), "lacking_revisions") != want {
			t.Errorf("repair %d logs:\n%s", i+1, log.String())
		}
	}
}
