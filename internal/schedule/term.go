package schedule

import (
	"context"
	"time"
)

// Term is one term of a leader: the state of schedules, which no other replica writes during the term.
type Term interface {
	// LastDue returns when the last run of a schedule that has ended was due; the zero time when there was none.
	LastDue(ctx context.Context, schedule string) (time.Time, error)
	// PutLastDue writes it. It fails when the leadership has ended, also when this process does not know that yet.
	PutLastDue(ctx context.Context, schedule string, due time.Time) error
	// Asked is closed when another replica is to lead.
	Asked() <-chan struct{}
	// GiveWay ends the term, so that it can.
	GiveWay()
}
