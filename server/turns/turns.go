// Package turns asks many clusters at a time, and lets those that do not answer hold up nobody.
package turns

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Turns bound how many questions are asked at a time.
type Turns struct {
	Width  int           // questions at a time
	Length time.Duration // a question that has no answer by then only waits: another one is asked beside it
	Begin  time.Duration // no turn begins later
}

// Each asks n questions, in their order, and waits for all answers. In place of a question whose turn has not come
// before ctx is done, or in time, it calls skip with the number of those that were asked and are not answered then. A
// panic of either becomes one of the caller, once all have ended: who recovers that of one question recovers these.
func (t Turns) Each(ctx context.Context, n int, ask func(i int), skip func(i, unanswered int)) {
	begins, cancel := context.WithTimeout(ctx, t.Begin)
	defer cancel()
	taken := make(chan struct{}, t.Width)
	var unanswered atomic.Int64
	var panicked atomic.Pointer[string]
	var wg sync.WaitGroup
	run := func(f func()) {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panicked.Store(new(fmt.Sprintf("%v\n%s", p, debug.Stack())))
				}
			}()
			f()
		})
	}
	for i := range n {
		if !take(begins, taken) {
			n := int(unanswered.Load())
			run(func() { skip(i, n) })
			continue
		}
		give := sync.OnceFunc(func() { <-taken })
		late := time.AfterFunc(t.Length, give)
		unanswered.Add(1)
		run(func() {
			defer give()
			defer late.Stop()
			ask(i)
			if ctx.Err() == nil && begins.Err() == nil { // it has not just been given up with all others
				unanswered.Add(-1)
			}
		})
	}
	wg.Wait()
	if p := panicked.Load(); p != nil {
		panic(*p)
	}
}

// take takes a turn; false when ctx is done before there is one.
func take(ctx context.Context, taken chan<- struct{}) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case taken <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// BeforeEnd returns a context that is done a little before ctx, so that the caller gets what is known by then.
func BeforeEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	end, bounded := ctx.Deadline()
	if !bounded {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(-min(time.Second, time.Until(end)/5)))
}

// NotAsked is why the turn of a question did not come.
func NotAsked(waited time.Duration, unanswered int) error {
	text := fmt.Sprintf("its turn did not come within %s", waited.Round(time.Second/10))
	if unanswered > 0 {
		text += fmt.Sprintf(", and %d of those before it have not answered yet", unanswered)
	}
	return errors.New(text)
}

// Within asks a question, which has until ctx is done, and says in its error how long there was no answer then.
func Within(ctx context.Context, ask func() error) error {
	asked := time.Now()
	err := ask()
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("it did not answer within %s: %w", time.Since(asked).Round(time.Second/10), err)
	}
	return err
}
