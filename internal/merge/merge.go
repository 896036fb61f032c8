// Package merge reads several sequences in one order side by side, and no more of each than is needed.
package merge

import (
	"context"
	"iter"
	"sync"
	"time"
)

// Cursor is one of the sequences that are merged, at one of its elements.
type Cursor[T any] struct {
	Cur T
	Key string // the place of Cur in the order; empty before the first element, and when the sequence has ended
	Err error  // why it ended early

	next  func() (T, error, bool)
	stop  func()
	place func(T) string
}

// NewCursor returns a cursor before the first element. The caller stops it.
func NewCursor[T any](seq iter.Seq2[T, error], place func(T) string) *Cursor[T] {
	next, stop := iter.Pull2(seq)
	return &Cursor[T]{next: next, stop: stop, place: place}
}

// Advance goes to the next element.
func (c *Cursor[T]) Advance() {
	v, err, ok := c.next()
	switch {
	case !ok:
		c.Key = ""
	case err != nil:
		c.Key, c.Err = "", err
	default:
		c.Cur, c.Key = v, c.place(v)
	}
}

// Stop ends the reading of the sequence.
func (c *Cursor[T]) Stop() { c.stop() }

// Ahead returns a sequence that is read by a goroutine of its own, at most so many elements ahead: several of them
// wait for their servers at the same time. took is told how long each element took to come, and how long the end.
func Ahead[T any](
	ctx context.Context, open func(context.Context) iter.Seq2[T, error], most int, now func() time.Time,
	took func(time.Duration),
) iter.Seq2[T, error] {
	type read struct {
		value T
		err   error
	}
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		ch := make(chan read, most)
		var reading sync.WaitGroup
		defer reading.Wait() // took is not called any more when the sequence has ended
		defer cancel()
		reading.Go(func() {
			defer close(ch)
			mark := now()
			for value, err := range open(ctx) {
				took(now().Sub(mark))
				select {
				case ch <- read{value, err}:
				case <-ctx.Done():
					return
				}
				mark = now()
			}
			took(now().Sub(mark))
		})
		for r := range ch {
			if !yield(r.value, r.err) {
				return
			}
		}
	}
}
