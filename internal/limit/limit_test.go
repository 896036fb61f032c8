package limit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/limit"
)

const mib = 1 << 20

// pass lets as many bytes through, from several goroutines in odd pieces, and returns how long it took on the clock of
// the bubble.
func pass(t *testing.T, l *limit.Limit, goroutines, bytes int) time.Duration {
	t.Helper()
	begin := time.Now()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for left := bytes / goroutines; left > 0; left -= 100_001 {
				if err := l.Wait(t.Context(), min(left, 100_001)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

func TestNoMoreBytesPassThanTheRateAllows(t *testing.T) {
	for _, goroutines := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			took := pass(t, limit.New(10*mib), goroutines, 100*mib)
			// All but what may pass at once takes its time, and nothing takes longer.
			if took < 10*time.Second-10*time.Millisecond || took > 10*time.Second {
				t.Errorf("%d goroutines: 100 MiB at 10 MiB/s took %v", goroutines, took)
			}
		})
	}
}

func TestWithoutARateNothingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if took := pass(t, limit.New(0), 4, 1000*mib); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestRateChangesOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(mib)
		time.AfterFunc(10*time.Second, func() { l.Set(10 * mib) })
		time.AfterFunc(20*time.Second, func() { l.Set(0) })
		// 10 MiB in the first ten seconds, 100 MiB in the next ten, the rest at once.
		if took := pass(t, l, 1, 1000*mib); took < 20*time.Second || took > 20*time.Second+100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestTooLowARateIsTheLowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if took := pass(t, limit.New(1), 1, 10*limit.Min); took != 9*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		time.AfterFunc(1500*time.Millisecond, func() { cancel(why) })
		l := limit.New(limit.Min)
		begin := time.Now()
		if err := l.Wait(ctx, 100*limit.Min); !errors.Is(err, why) || time.Since(begin) != 1500*time.Millisecond {
			t.Errorf("error %v after %v", err, time.Since(begin))
		}
	})
}
