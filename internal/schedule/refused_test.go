package schedule_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/snapshot"
)

// What has failed under a leader before is neither tried nor told again by the next one.
func TestFailuresUnderAnotherLeaderDoNotDelayTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := saves{answer: func(context.Context, int) (snapshot.State, error) {
			return snapshot.StateFailed, snapshot.ReasonBackendUnavailable.New("save")
		}}
		m := newMemory()
		r := runs(&s, schedule.Schedule{Name: "a", Spec: spec(t, "@daily", "")})
		m.last["a"] = time.Now().Add(-time.Hour) // due at midnight, which is now
		leadFor(t, m, r, time.Hour)
		failed := len(s.ids)
		if failed < 5 {
			t.Fatalf("only %d attempts", failed)
		}
		s.answer = nil // its cause is ended
		begun := time.Now()
		leadFor(t, m, r, time.Hour)
		if len(s.ids) != failed+1 || !s.at[failed].Equal(begun) {
			t.Fatalf("attempts at %q, want one more at once", s.times())
		}
		if got, want := s.ids[failed], fmt.Sprintf("%s/%d", s.ids[0], failed+1); got != want {
			t.Errorf("the request of the new attempt is %s, want %s", got, want)
		}
	})
}
