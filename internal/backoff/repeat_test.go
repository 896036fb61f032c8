package backoff_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
)

// repeated repeats work that notes when it was called, and takes some time.
func repeated(
	t *testing.T, first, takes time.Duration, pauses ...time.Duration,
) (calls func() []time.Duration, wake, stop func()) {
	var mu sync.Mutex
	var at []time.Duration
	begin := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	wake = backoff.Repeat(ctx, &work, first, func(context.Context) time.Duration {
		mu.Lock()
		at = append(at, time.Since(begin))
		n := len(at)
		mu.Unlock()
		time.Sleep(takes)
		if n > len(pauses) {
			return backoff.Never
		}
		return pauses[n-1]
	})
	calls = func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(at)
	}
	return calls, wake, func() {
		cancel()
		work.Wait()
	}
}

func TestRepeatPausesAsLongAsEachCallSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, _, stop := repeated(t, time.Second, time.Minute, time.Hour, 2*time.Hour)
		time.Sleep(1000 * time.Hour)
		stop()
		want := []time.Duration{time.Second, time.Second + 61*time.Minute, time.Second + 182*time.Minute}
		if got := calls(); !slices.Equal(got, want) {
			t.Errorf("called after %v, want %v", got, want)
		}
	})
}

func TestRepeatEndsAfterTheCallUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		calls, wake, stop := repeated(t, 0, time.Hour, time.Second)
		time.Sleep(time.Minute)
		wake()
		stop()
		if d := time.Since(begin); d != time.Hour {
			t.Errorf("the call of an hour was waited for until %v", d)
		}
		wake()
		time.Sleep(time.Hour)
		if got := calls(); len(got) != 1 {
			t.Errorf("called after %v", got)
		}
	})
}

func TestWakingEndsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, wake, stop := repeated(t, 0, time.Minute)
		defer stop()
		time.Sleep(time.Hour)
		wake()
		time.Sleep(time.Second) // during the call
		wake()
		wake()
		time.Sleep(time.Hour)
		// Each call takes a minute; waking twice during one makes one more.
		if got, want := calls(), []time.Duration{0, time.Hour, time.Hour + time.Minute}; !slices.Equal(got, want) {
			t.Errorf("called after %v, want %v", got, want)
		}
	})
}
