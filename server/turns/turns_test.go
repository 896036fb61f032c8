package turns_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/server/turns"
)

// ours are turns as the service has them.
var ours = turns.Turns{Width: 32, Length: 500 * time.Millisecond, Begin: 20 * time.Second}

// asked is how questions were answered: after how long, or that they were skipped.
type asked struct {
	answered []time.Duration // since the first one; -1 for those that were skipped
	waited   []int           // of those that were skipped: the questions without an answer
	most     int             // at a time
}

// each asks questions of which each takes its time.
func each(ctx context.Context, t turns.Turns, takes ...time.Duration) asked {
	a := asked{answered: make([]time.Duration, len(takes)), waited: make([]int, len(takes))}
	begin := time.Now()
	var mu sync.Mutex
	now := 0
	t.Each(ctx, len(takes), func(i int) {
		mu.Lock()
		now++
		a.most = max(a.most, now)
		mu.Unlock()
		time.Sleep(takes[i])
		mu.Lock()
		now--
		mu.Unlock()
		a.answered[i] = time.Since(begin)
	}, func(i, unanswered int) { a.answered[i], a.waited[i] = -1, unanswered })
	return a
}

func repeated(n int, takes time.Duration) []time.Duration {
	return slices.Repeat([]time.Duration{takes}, n)
}

// A thousand clusters of an etcd that is 20 ms away have their turn.
func TestManyThatAnswerAreAllAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := each(t.Context(), ours, repeated(1000, 300*time.Millisecond)...)
		if slices.Contains(a.answered, -1) || a.most != 32 {
			t.Errorf("%d at a time, answered after %v", a.most, a.answered)
		}
	})
}

// Those that do not answer keep their turn for a moment alone.
func TestOneThatDoesNotAnswerHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := each(t.Context(), ours, append(repeated(100, 6*time.Second), repeated(100, time.Millisecond)...)...)
		if slices.Contains(a.answered, -1) {
			t.Fatalf("one had no turn: %v", a.answered)
		}
		if last := slices.Max(a.answered[100:]); last > 2*time.Second {
			t.Errorf("those that answer waited for %v", last)
		}
	})
}

// No more is under way than can begin while the first ones wait.
func TestThoseThatDoNotAnswerAreSomeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if a := each(t.Context(), ours, repeated(1000, 6*time.Second)...); a.most > 32*(12+1) {
			t.Errorf("%d at a time", a.most)
		}
	})
}

func TestOneWithoutATurnIsToldWithThoseThatHaveNotAnswered(t *testing.T) {
	for name, after := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"for want of time": context.WithCancel,
		"as the caller leaves": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 2*time.Second)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := after(t.Context())
			defer cancel()
			hang := turns.Turns{Width: 2, Length: time.Hour, Begin: 5 * time.Second}
			a := each(ctx, hang, time.Second, time.Minute, time.Minute, time.Millisecond, time.Millisecond)
			if a.answered[0] != time.Second || a.answered[1] != time.Minute || a.answered[2] < time.Minute {
				t.Errorf("%s: those that were asked were answered after %v", name, a.answered[:3])
			}
			if !slices.Equal(a.answered[3:], []time.Duration{-1, -1}) || !slices.Equal(a.waited[3:], []int{2, 2}) {
				t.Errorf("%s: without a turn: %v, while %v were not answered", name, a.answered[3:], a.waited[3:])
			}
		})
	}
}
