package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// retryAfter returns when a retry can help after an error of this reason; 0 when it cannot.
func retryAfter(r Reason) time.Duration {
	switch r {
	case ReasonSaveInProgress, ReasonInterrupted, ReasonConflict:
		return 5 * time.Second
	case ReasonEtcdUnavailable, ReasonCatalogUnavailable, ReasonBackendUnavailable, ReasonCopyMissing, ReasonChecksumMismatch:
		return 10 * time.Second
	case ReasonNoSpace:
		return time.Minute
	default:
		return 0
	}
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

// failureOf returns an error as the catalog keeps it.
func failureOf(backend string, err error) Failure {
	if e, ok := errors.AsType[*Error](err); ok {
		if backend == "" {
			backend = e.Backend
		}
		return Failure{Backend: backend, Reason: e.Reason, Message: err.Error()}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Failure{Backend: backend, Reason: ReasonCancelled, Message: err.Error()}
	}
	return Failure{Backend: backend, Reason: ReasonInternal, Message: err.Error()}
}

// outcome returns what a save that is over returns: nil when the snapshot is READY, else the error of what failed first,
// in the order of the configuration. It is a function of the record alone, so that a repeated request gets the same.
func outcome(rec *Record) error {
	if rec.State == StateReady {
		return nil
	}
	e := &Error{Reason: ReasonInternal, Message: fmt.Sprintf("save %s", rec.Name)}
	var why []string
	for i, f := range rec.Failures {
		if i == 0 {
			e.Reason, e.Backend = f.Reason, f.Backend
		}
		why = append(why, f.Message)
	}
	e.Err = errors.New(strings.Join(why, "; "))
	switch whole := readyBackends(rec); {
	case len(whole) > 0:
		e.Hint = fmt.Sprintf("the snapshot is whole on %s", strings.Join(whole, ", "))
	case rec.KeptOn != "":
		e.Hint = fmt.Sprintf("the snapshot is kept on %s alone, until a backend takes it", rec.KeptOn)
	default:
		e.Hint = "nothing was kept"
	}
	e.Retry = retryAfter(e.Reason)
	return e
}

func readyBackends(rec *Record) []string {
	var names []string
	for _, l := range rec.Locations {
		if l.State == StateReady {
			names = append(names, l.Backend)
		}
	}
	return names
}

// setState sets the state and the error of a snapshot from its locations.
func setState(s *Snapshot) {
	var ready, failed, deleting int
	var why []string
	for _, l := range s.Locations {
		switch l.State {
		case StateReady:
			ready++
		case StateDeleting:
			if l.Size > 0 { // otherwise it is swept, and never held anything
				deleting++
				continue
			}
			failed++
		default:
			failed++
			if l.Error != "" {
				why = append(why, l.Error)
			}
		}
	}
	switch {
	case failed == 0 && ready > 0:
		s.State, s.Error = StateReady, ""
		return
	case ready > 0:
		s.State = StatePartial
	case deleting > 0:
		s.State, s.Error = StateDeleting, ""
		return
	default:
		s.State = StateFailed
	}
	if len(why) > 0 {
		s.Error = strings.Join(why, "; ")
	}
}
