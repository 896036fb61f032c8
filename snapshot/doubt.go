package snapshot

import (
	"context"
	"errors"
	"fmt"
)

// doubt looks again at what this save has written, if anybody may have taken it for dead meanwhile: the lock was lost, or
// the record was changed, and current is what it is now. A reconciliation may have swept data that had no manifest yet.
// Where it has, or is about to (the location is marked DELETING), the location holds nothing.
func (s *save) doubt(ctx context.Context, current *Record) {
	if current == nil && !s.lockLost() {
		return
	}
	for i, b := range s.backends {
		l := &s.rec.Locations[i]
		if l.State != StateReady {
			continue
		}
		err := s.stillThere(ctx, b)
		if err == nil && current != nil {
			if c := current.Location(l.Backend); c != nil && c.State == StateDeleting {
				err = errors.New("reconcile is sweeping it")
			}
		}
		if err == nil {
			continue
		}
		err = &Error{
			Reason: ReasonInterrupted, Backend: l.Backend, Retry: retryAfter(ReasonInterrupted), Err: err,
			Message: fmt.Sprintf("backend %q: this replica was taken for dead, and what it had stored was not found again", l.Backend),
			Hint:    "save again",
		}
		l.State, l.Size, l.Error, l.UpdateTime = StateFailed, 0, err.Error(), s.cfg.Now().UTC()
		s.rec.Failures = append(s.rec.Failures, failureOf(l.Backend, err))
	}
}

func (s *save) lockLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// stillThere asks a backend for both objects.
func (s *save) stillThere(ctx context.Context, b Backend) error {
	o, err := b.Stat(ctx, s.key(s.rec.DataKey()))
	if err != nil {
		return err
	}
	if o.Size != s.rec.StoredSize {
		return fmt.Errorf("it has %d bytes instead of %d", o.Size, s.rec.StoredSize)
	}
	_, err = b.Stat(ctx, s.key(ManifestKey(s.rec.Name)))
	return err
}
