package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/fault"
)

// errUnchanged says that a record needs no change.
var errUnchanged = errors.New("unchanged")

// record puts the location of the new copy into the record. When somebody has changed the record since it was read, a sweep
// may have been at work: then the copy must still be there.
func (h *healing) record(ctx context.Context) error {
	first := true
	err := h.amend(ctx, func(rec *Record) error {
		if l := rec.Location(h.target.Name()); l != nil && l.State == StateDeleting {
			return &Error{
				Reason: ReasonInterrupted, Backend: l.Backend, Retry: retryAfter(ReasonInterrupted),
				Message: fmt.Sprintf("repair %s on backend %q: a reconcile was sweeping what lay there", rec.Name, l.Backend),
			}
		}
		if !first {
			if err := h.stillHeld(ctx, rec); err != nil {
				return err
			}
		}
		first = false
		h.setReady(rec)
		return nil
	})
	if err != nil {
		return err
	}
	h.done = true
	fault.Point("repair-recorded")
	h.log.InfoContext(ctx, "snapshot repaired", "snapshot", h.rec.Name, "backend", h.target.Name(), "state", h.rec.State.String())
	shown := h.rec.Snapshot.Clone()
	h.cfg.Events.Publish(Event{
		Type: EventLocationDone, Time: h.cfg.Now(), Cluster: h.cfg.Name, Name: shown.Name, RequestID: h.rec.RequestID,
		Backend: h.target.Name(), Snapshot: shown,
	})
	return nil
}

func (h *healing) setReady(rec *Record) {
	name := h.target.Name()
	l := rec.Location(name)
	if l == nil {
		rec.Locations = append(rec.Locations, Location{Backend: name})
		order := h.BackendNames()
		slices.SortStableFunc(rec.Locations, func(a, b Location) int {
			return slices.Index(order, a.Backend) - slices.Index(order, b.Backend)
		})
		l = rec.Location(name)
	}
	*l = Location{
		Backend: name, Kind: h.target.Kind(), URI: h.target.URI(h.key(rec.DataKey())),
		Size: rec.StoredSize, State: StateReady, UpdateTime: h.cfg.Now().UTC(),
	}
	rec.setDamaged(name, false)
	rec.Failures = slices.DeleteFunc(rec.Failures, func(f Failure) bool { return f.Backend == name })
	rec.forgetRepairs()
	rec.KeptOn = ""
}

// stillHeld asks the target for both objects.
func (h *healing) stillHeld(ctx context.Context, rec *Record) error {
	o, err := h.target.Stat(ctx, h.key(rec.DataKey()))
	if err == nil && o.Size != rec.StoredSize {
		err = fmt.Errorf("backend %q: the copy has %d bytes instead of %d", h.target.Name(), o.Size, rec.StoredSize)
	}
	if err == nil {
		_, err = h.target.Stat(ctx, h.key(ManifestKey(rec.Name)))
	}
	return err
}

// amend changes the record on condition that it is as it was read, and looks again when somebody was faster.
func (h *healing) amend(ctx context.Context, change func(*Record) error) error {
	for range 4 {
		next := h.rec.Clone()
		if err := change(next); errors.Is(err, errUnchanged) {
			return nil
		} else if err != nil {
			return err
		}
		setState(&next.Snapshot)
		if next.State == StateReady {
			next.Failures = nil
		}
		next.tellKept()
		err := h.cfg.Catalog.Update(ctx, next)
		if err == nil {
			h.rec = next
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		current, err := h.cfg.Catalog.Get(ctx, h.rec.Name)
		switch {
		case isNotFound(err):
			return errGone
		case err != nil:
			return err
		case current.State == StateDeleting || current.StoredSHA256 != h.rec.StoredSHA256:
			return errGone
		}
		h.rec = current
	}
	return &Error{
		Reason: ReasonConflict, Backend: h.target.Name(), Retry: retryAfter(ReasonConflict),
		Message: fmt.Sprintf("repair %s: its record was changed again and again meanwhile", h.rec.Name),
	}
}

// withdraw removes the copy that was made of a snapshot that was deleted meanwhile, or is being deleted: the next reconcile
// would take it in again. A record can also be gone with a catalog that came back from the past; so the copy stays when the
// record is gone and any copy that it named is still there, or cannot be asked for.
func (h *healing) withdraw(ctx context.Context) {
	if !h.wrote {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	current, err := h.cfg.Catalog.Get(ctx, h.rec.Name)
	switch {
	case isNotFound(err):
		if h.anyLeft(ctx) {
			return
		}
	case err != nil || current.State != StateDeleting:
		return
	}
	for _, key := range []string{ManifestKey(h.rec.Name), h.rec.DataKey()} {
		if err := h.target.Delete(ctx, h.key(key)); err != nil {
			h.log.WarnContext(ctx, "copy of a deleted snapshot not removed", "backend", h.target.Name(), "snapshot", h.rec.Name, "error", err)
			return
		}
	}
}

// failedAttempt notes in the record that an attempt has failed, and when the next one is due.
func (h *healing) failedAttempt(ctx context.Context, now time.Time, why error) error {
	err := h.amend(ctx, func(rec *Record) error {
		l := rec.Location(h.target.Name())
		if l == nil || l.State != StateFailed {
			return errUnchanged
		}
		rec.addAttempt(h.target.Name(), now, why)
		return nil
	})
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}
