package inflight

import (
	"context"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Slots limits how many calls of one kind run at the same time. Each of them holds memory or room in the spool, which
// must not depend on how many callers there are.
type Slots chan struct{}

// NewSlots returns that many free slots.
func NewSlots(n int) Slots { return make(Slots, n) }

// Take waits for a slot; the caller calls release. The error is that ctx is done.
func (s Slots) Take(ctx context.Context, format string, args ...any) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, snapshot.Cancelled(ctx, format, args...)
	}
}
