package schedule

import (
	"context"
	"time"
)

// Term is one term of a leader: what it may write while nobody else leads.
type Term interface {
	// LastDue returns when a schedule was due whose run was the last one to end; the zero time when there was none.
	LastDue(ctx context.Context, schedule string) (time.Time, error)
	// PutLastDue remembers it. It fails when the leadership has ended, also when this process does not know it yet.
	PutLastDue(ctx context.Context, schedule string, due time.Time) error
}
