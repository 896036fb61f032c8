package daemon

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
)

func TestATimelineOfTheFarFutureIsNone(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[time.Duration]bool{-time.Hour: true, time.Minute: true, 2 * time.Hour: false, 200 * 365 * 24 * time.Hour: false} {
		if name := segment.NewTimeline(0xab, time.Now().Add(ahead)); isTimeline(string(name)) != want {
			t.Errorf("%s ahead, %s is believed: %t", ahead, name, !want)
		}
	}
	for _, name := range []string{"", "x", "00000000000000ab-1784203200\n"} {
		if isTimeline(name) {
			t.Errorf("%q is believed", name)
		}
	}
}

func TestABaseIsNotTakenBeforeTheTimeOfItsTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for ahead, want := range map[time.Duration]time.Duration{-time.Minute: 0, time.Minute: time.Minute, 30 * time.Hour: time.Hour} {
			began := time.Now()
			if err := awaitTime(t.Context(), began.Add(ahead)); err != nil || time.Since(began) != want {
				t.Errorf("for a time %s ahead, it waits for %s, %v", ahead, time.Since(began), err)
			}
		}
	})
}
