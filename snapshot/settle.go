package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	// failedAge is how long the record of a failed save is kept.
	failedAge = 24 * time.Hour
	// youngAge is how old a record must be before it may be removed, and another program's file before it is read: somebody may
	// be at work on it.
	youngAge = time.Minute
)

// settle makes the record of one name tell the truth about the backends that are known. Its error ends the whole
// reconciliation; what one backend has to say is noted in its view.
func (r *reconciliation) settle(ctx context.Context, it item) error {
	ch := newChange(len(r.views))
	for i, g := range it.groups {
		if g != nil && g.manifest && len(g.objects) > 0 {
			ch.listed[i] = true
		}
	}
	if it.rec == nil {
		return r.discover(ctx, it, ch)
	}
	rec := it.rec.Clone()
	if deleting(rec) {
		return r.settleDeleting(ctx, it, rec, ch)
	}
	if rec.State != StateSaving {
		r.settleLocations(ctx, it, rec, ch)
	} else if settled, err := r.settleSaving(ctx, it, rec, ch); err != nil || !settled {
		return err
	}
	left, err := r.sweepOrphans(ctx, it, rec)
	if errors.Is(err, ErrConflict) {
		return r.commit(ctx, it, rec, newChange(len(r.views)), false) // somebody is at work; the next run looks again
	}
	if err != nil {
		return err
	}
	if !left && r.allSeen(it, rec) && r.forgettable(rec) {
		return r.commit(ctx, it, nil, ch, true)
	}
	rec.forgetRepairs()
	changed := !slices.Equal(it.rec.Locations, rec.Locations) || it.rec.State != rec.State
	return r.commit(ctx, it, rec, ch, changed)
}

// settleSaving decides about a save whose owner is gone. It returns false when the owner is at work, or when a backend
// that it was writing to cannot be seen.
func (r *reconciliation) settleSaving(ctx context.Context, it item, rec *Record, ch *change) (bool, error) {
	owner, err := r.cfg.Catalog.LockOwner(ctx)
	if err != nil {
		return false, err
	}
	if owner == rec.Owner || r.isSaving(rec.Name) || !r.allSeen(it, rec) {
		r.mu.Lock()
		r.busy[rec.Name] = true
		r.mu.Unlock()
		return false, r.commit(ctx, it, rec, ch, false)
	}
	r.settleInterrupted(ctx, it, rec, ch)
	return true, nil
}

// settleInterrupted makes the record of a save that nobody goes on with say what the backends hold of it.
func (r *reconciliation) settleInterrupted(ctx context.Context, it item, rec *Record, ch *change) {
	interrupted := fmt.Sprintf("the replica that was saving it (%s) died or lost its lease", rec.Owner)
	for i := range rec.Locations {
		rec.Locations[i].State, rec.Locations[i].Error = StateFailed, interrupted
	}
	r.settleLocations(ctx, it, rec, ch)
	for i := range ch.unchanged {
		ch.updated[i] = ch.updated[i] || ch.unchanged[i]
		ch.unchanged[i] = false
	}
	rec.Owner = ""
	if rec.State != StateReady {
		rec.Failures = []Failure{{Reason: ReasonInterrupted, Message: interrupted}}
	}
}

// allSeen reports whether every configured backend that the record names is known: what cannot be seen is not forgotten.
func (r *reconciliation) allSeen(it item, rec *Record) bool {
	for _, l := range rec.Locations {
		i := r.viewOf(l.Backend)
		if r.backend(l.Backend) != nil && (i < 0 || !it.known[i]) {
			return false
		}
	}
	return true
}

// forgettable reports whether a record is of no use any more: no location holds anything, and it is old enough. What a
// failed save has left behind keeps its record until it is swept, and so does what a replica keeps.
func (r *reconciliation) forgettable(rec *Record) bool {
	if rec.KeptOn != "" {
		return false
	}
	for _, l := range rec.Locations {
		if l.State == StateReady || l.State == StateSaving || l.Size > 0 {
			return false
		}
	}
	age := r.begin.Sub(rec.CreateTime)
	if len(rec.Failures) > 0 && len(rec.Locations) > 0 {
		return age >= max(failedAge, r.cfg.LeftoverAge)
	}
	return age >= youngAge
}
