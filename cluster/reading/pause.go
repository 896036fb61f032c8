package reading

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// askInterval is how often the member is asked whether it answers while the limit holds the reading back.
	askInterval = 2 * time.Second
	// answerTimeout is how long it may take to answer. A member that works answers in milliseconds.
	answerTimeout = 2 * time.Second
	// noticeable is how long a wait must take to count: a shorter one costs etcd nothing.
	noticeable = 10 * time.Millisecond
)

// pause is the limit of one stream, which is lifted when the member stops answering.
//
// etcd holds a read transaction of its database open until the stream has been read. A defragmentation of the member
// waits for that transaction, and all reads and writes of the member wait for the defragmentation. So with a limit,
// etcd could be blocked for as long as the limit makes the stream last. At full speed it is blocked no longer than
// without a limit.
type pause struct {
	limit   Limiter
	waiting context.Context //nolint:containedctx // of all waits: it ends when the limit is lifted
	lift    context.CancelCauseFunc
	held    atomic.Bool    // the limit makes the reading wait
	asking  sync.WaitGroup // the goroutine that asks the member
}

// newPause returns the limit of a stream that ends with ctx; the caller calls end.
func newPause(ctx context.Context, limit Limiter, answers func(context.Context) error) *pause {
	p := &pause{limit: limit}
	p.waiting, p.lift = context.WithCancelCause(ctx)
	if answers != nil {
		p.asking.Go(func() { p.ask(answers) }) //nolint:contextcheck // p.waiting is of ctx
	}
	return p
}

// wait returns when this many bytes may pass, or with the cause of the stream's ctx when that has ended.
func (p *pause) wait(ctx context.Context, bytes int) error {
	if p.waiting.Err() == nil {
		begin := time.Now()
		p.held.Store(true)
		// Its only error is that the context has ended; the caller's is looked at below.
		_ = p.limit.Wait(p.waiting, bytes) //nolint:contextcheck // p.waiting ends with the stream's
		p.held.Store(time.Since(begin) >= noticeable)
	}
	return context.Cause(ctx)
}

// ask asks the member regularly while the limit makes the reading wait, and lifts the limit when it does not answer. A
// member that the limit does not hold back is not asked: nothing could be done for it.
func (p *pause) ask(answers func(context.Context) error) {
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.waiting.Done():
			return
		case <-tick.C:
		}
		if !p.held.Load() {
			continue
		}
		ctx, cancel := context.WithTimeout(p.waiting, answerTimeout)
		err := answers(ctx)
		cancel()
		if err != nil {
			p.lift(&unanswered{err})
			return
		}
	}
}

// end ends the asking, and returns why the limit was lifted; nil when it was not.
func (p *pause) end() error {
	p.lift(nil)
	p.asking.Wait()
	if e, ok := errors.AsType[*unanswered](context.Cause(p.waiting)); ok {
		return e
	}
	return nil
}

// unanswered says that the member did not answer.
type unanswered struct{ cause error }

// Error implements error.
func (e *unanswered) Error() string {
	return fmt.Sprintf("it did not answer within %s: %v", answerTimeout, e.cause)
}

// Unwrap returns why.
func (e *unanswered) Unwrap() error { return e.cause }
