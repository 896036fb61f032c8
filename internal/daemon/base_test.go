package daemon

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/snapshot"
)

func TestASnapshotServesAsTheBaseThatIsNeeded(t *testing.T) {
	t.Parallel()
	since := time.Unix(1_784_203_200, 0)
	need := journal.Base{Since: since, Revision: 100, Cluster: 0xab}
	fresh := need
	fresh.Fresh = true
	good := snapshot.Snapshot{CreateTime: since, Revision: 99, EtcdClusterID: "00000000000000ab"}
	edited := func(edit func(*snapshot.Snapshot)) *snapshot.Snapshot {
		s := good
		edit(&s)
		return &s
	}
	for name, c := range map[string]struct {
		last *snapshot.Snapshot
		need journal.Base
		want bool
	}{
		"it leads to the first revision": {&good, need, true},
		"it is older":                    {edited(func(s *snapshot.Snapshot) { s.CreateTime = since.Add(-1) }), need, false},
		"revisions are missing after it": {edited(func(s *snapshot.Snapshot) { s.Revision = 98 }), need, false},
		"it is of another etcd":          {edited(func(s *snapshot.Snapshot) { s.EtcdClusterID = "00000000000000ac" }), need, false},
		"it may be of the old history":   {&good, fresh, false},
	} {
		if got := serves(c.last, c.need); got != c.want {
			t.Errorf("%s: it serves: %t", name, got)
		}
	}
}

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
