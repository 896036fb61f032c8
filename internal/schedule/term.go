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
	// Asked reports whether another replica is to lead.
	Asked(ctx context.Context) (bool, error)
	// GiveWay ends the term, so that it can.
	GiveWay(ctx context.Context) error
}
