package schedule

import (
	"context"
	"time"
)

// Term is one term of a leader: the state of schedules, which no other replica writes during the term.
type Term interface {
	// Leads fails when the leadership has ended, also when this process does not know that yet: the error wraps
	// [snapshot.ErrLocked]. Any other error says that it is not known.
	Leads(ctx context.Context) error
	// LastDue returns when the last run of a schedule that has ended was due; the zero time when there was none.
	LastDue(ctx context.Context, schedule string) (time.Time, error)
	// PutLastDue writes it. It fails as Leads does, and also while the catalog takes no writes.
	PutLastDue(ctx context.Context, schedule string, due time.Time) error
	// Asked reports whether another replica is to lead.
	Asked(ctx context.Context) (bool, error)
	// GiveWay ends the term, so that it can.
	GiveWay(ctx context.Context) error
}
