package backoff_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
)

func TestDelayDoublesUpToItsLimit(t *testing.T) {
	for attempts, want := range map[int]time.Duration{
		0: 5 * time.Second, 1: 5 * time.Second, 2: 10 * time.Second, 3: 20 * time.Second, 7: 320 * time.Second,
		8: 10 * time.Minute, 9: 10 * time.Minute, math.MaxInt: 10 * time.Minute,
	} {
		if got := backoff.Delay(5*time.Second, 10*time.Minute, attempts); got != want {
			t.Errorf("after %d attempts: %v, want %v", attempts, got, want)
		}
	}
	if got := backoff.Delay(time.Hour, time.Minute, 1); got != time.Minute {
		t.Errorf("a first pause beyond the limit: %v", got)
	}
}

func TestSpreadStaysWithinItsShare(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := backoff.Spread(time.Hour, 0.1)
		if d < 54*time.Minute || d > 66*time.Minute {
			t.Fatalf("an hour became %v", d)
		}
		seen[d] = true
	}
	if len(seen) < 900 {
		t.Errorf("1000 pauses had %d lengths", len(seen))
	}
}

func TestWaitEndsWithTheTimeOrTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := backoff.Wait(t.Context(), time.Minute); err != nil || time.Since(begin) != time.Minute {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		begin = time.Now()
		if err := backoff.Wait(ctx, time.Minute); !errors.Is(err, why) || time.Since(begin) != time.Second {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
		if err := backoff.Wait(ctx, -1); !errors.Is(err, why) {
			t.Errorf("error %v when it has ended before", err)
		}
	})
}
