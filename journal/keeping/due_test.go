package keeping

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsDoneIsDueAgainAfterItsPauseOrWhenItIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, later := due{every: time.Hour}, due{every: time.Hour, last: time.Now()}
		for _, tc := range []struct {
			after        time.Duration
			asked        bool
			first, later bool
		}{
			{0, false, true, false},
			{0, false, false, false},
			{59 * time.Minute, false, false, false},
			{time.Minute, false, true, true},
			{time.Minute, false, false, false},
			{0, true, true, true},
			{59 * time.Minute, false, false, false},
		} {
			time.Sleep(tc.after)
			if tc.asked {
				first.soon()
				later.soon()
			}
			if is := []bool{first.now(), later.now()}; is[0] != tc.first || is[1] != tc.later {
				t.Errorf("%+v: due are %v", tc, is)
			}
		}
	})
}
