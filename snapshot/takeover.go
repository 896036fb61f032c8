package snapshot

import (
	"context"
	"errors"
	"fmt"
)

// The save of a request may be taken for dead while it is only paused, and another replica then takes the request over.
// Two rules keep the request from having two snapshots. Whoever takes over first settles what the other has left: if that
// is whole anywhere it is the outcome, else its record is marked in the very transaction that begins the new save. And who
// finds his record so marked, or his request led elsewhere, tells nobody of what he has stored, and removes it once the
// other snapshot is whole.

// repeated returns the record that the request with this id led to, nil when it is new, and whether that is over: it has
// an outcome. A catalog that does not answer is no error: the save must go on without it.
func (c *Cluster) repeated(ctx context.Context, requestID string) (rec *Record, over bool, err error) {
	for range 5 {
		if requestID == "" {
			return nil, false, nil
		}
		rec, err := c.cfg.Catalog.ByRequestID(ctx, requestID)
		if err != nil {
			return nil, false, nil //nolint:nilerr // not found, or the catalog is down; lock finds out which
		}
		if rec.State != StateSaving {
			return rec, rec.over(), nil
		}
		owner, err := c.cfg.Catalog.LockOwner(ctx)
		if err != nil {
			return rec, false, nil //nolint:nilerr // as above
		}
		if owner == rec.Owner {
			return nil, false, c.saveInProgress("by this very request, on another replica")
		}
		if rec, err = c.settleDead(ctx, rec); err == nil {
			return rec, rec.over(), nil
		}
		if !errors.Is(err, ErrConflict) {
			return rec, false, nil // as above
		}
	}
	return nil, false, &Error{Reason: ReasonConflict, Message: fmt.Sprintf("repeat request %q: its record changes all the time", requestID), Retry: retryAfter(ReasonConflict)}
}

// over reports whether a save that is not SAVING any more has an outcome. One that was cancelled or interrupted has none:
// the request may be made again. A scheduled one has, if it is whole anywhere: the rest is for repair.
func (r *Record) over() bool {
	switch {
	case r.State == StateSaving || r.SupersededBy != "":
		return false
	case r.State != StateReady && len(r.Failures) > 0 && (r.Failures[0].Reason == ReasonCancelled || r.Failures[0].Reason == ReasonInterrupted):
		return r.State == StatePartial && r.Trigger == TriggerScheduled
	}
	return true
}

// settleDead makes the record of a save whose owner is gone say what the backends hold of it. A backend that cannot be
// asked counts as holding nothing; reconcile looks again. ErrConflict when somebody else was faster.
func (c *Cluster) settleDead(ctx context.Context, rec *Record) (*Record, error) {
	r := &reconciliation{Cluster: c, begin: c.cfg.Now(), byState: map[State]int64{}, busy: map[string]bool{}}
	it := item{name: rec.Name, rec: rec}
	for _, l := range rec.Locations {
		b := c.backend(l.Backend)
		if b == nil {
			continue
		}
		g, err := c.listed(ctx, b, rec)
		if err != nil {
			c.log.WarnContext(ctx, "cannot see what a dead save has left", "snapshot", rec.Name, "backend", b.Name(), "error", err)
		}
		r.views = append(r.views, &view{b: b, store: c.storeOf(b), known: err == nil})
		it.groups, it.known = append(it.groups, g), append(it.known, err == nil)
	}
	settled := rec.Clone()
	r.settleInterrupted(ctx, it, settled, newChange(len(r.views)))
	if settled.State != StateReady && settled.State != StatePartial {
		return rec, nil // nothing is whole; the record is marked by who takes over
	}
	return settled, c.cfg.Catalog.Update(ctx, settled)
}

// listed asks a backend for the objects of one snapshot, as a listing would show them.
func (c *Cluster) listed(ctx context.Context, b Backend, rec *Record) (*group, error) {
	unverified, err := c.openStore(ctx, b, storeCheck{})
	if err = errors.Join(err, unverified); err != nil {
		return nil, err
	}
	g := &group{name: rec.Name}
	data, err := b.Stat(ctx, c.key(rec.DataKey()))
	if err == nil {
		g.objects = append(g.objects, data)
		_, err = b.Stat(ctx, c.key(ManifestKey(rec.Name)))
		g.manifest = err == nil
	}
	if isNotFound(err) {
		err = nil
	}
	return g, err
}

// superseded marks the record of a save that by takes the request of. What is whole somewhere is a snapshot that somebody
// may know, and is left as it is.
func superseded(old, by *Record) *Record {
	if old == nil || old.State == StateReady || old.State == StatePartial || old.State == StateDeleting {
		return old
	}
	old = old.Clone()
	if old.State == StateSaving {
		why := fmt.Sprintf("the replica that was saving it (%s) died or lost its lease", old.Owner)
		old.Failures = []Failure{{Reason: ReasonInterrupted, Message: why}}
		for i := range old.Locations {
			l := &old.Locations[i]
			l.State, l.Error, l.Size = StateFailed, why, 0
		}
		old.Owner, old.State, old.Error = "", StateFailed, why
	}
	old.SupersededBy = by.Name
	return old
}

// takenOver looks, once the lock is lost, whether another save has the request by now: then no manifest is to be written.
func (s *save) takenOver(ctx context.Context) error {
	if !s.lockLost() || s.rec.Version == 0 {
		return nil
	}
	current, err := s.cfg.Catalog.Get(ctx, s.rec.Name)
	if err != nil || current.SupersededBy == "" {
		return nil //nolint:nilerr // in the disaster the save goes on
	}
	return s.lostTo(current.SupersededBy)
}

func (s *save) lostTo(name string) *Error {
	return &Error{
		Reason: ReasonInterrupted, Retry: retryAfter(ReasonInterrupted),
		Message: fmt.Sprintf("save %s: this replica was taken for dead, and another one took the request over as %s", s.rec.Name, name),
		Hint:    "the same request returns that outcome",
	}
}

// recordAnew adds a record that the catalog does not have: it was down, or the record was removed. If the request has a
// snapshot by now, or is being saved, this save has lost it.
func (s *save) recordAnew(ctx context.Context) error {
	if s.rec.RequestID == "" {
		return s.cfg.Catalog.Create(ctx, s.rec)
	}
	other, err := s.cfg.Catalog.ByRequestID(ctx, s.rec.RequestID)
	switch {
	case isNotFound(err):
		other = nil
	case err != nil:
		return err
	case other.Name == s.rec.Name:
		return fmt.Errorf("record %s: %w", s.rec.Name, ErrExists)
	}
	if s.rec.SupersededBy != "" {
		return s.cfg.Catalog.Create(ctx, s.rec)
	}
	if other != nil {
		lost := other.over() && other.State != StateFailed
		if other.State == StateSaving {
			owner, err := s.cfg.Catalog.LockOwner(ctx)
			if err != nil {
				return err
			}
			lost = owner == other.Owner
		}
		if lost {
			s.giveUp(ctx, other.Name)
			return s.cfg.Catalog.Create(ctx, s.rec)
		}
	}
	return s.cfg.Catalog.Begin(ctx, s.rec, superseded(other, s.rec))
}

// giveUp notes that the request has another snapshot, by name, and that nobody is to be told of this one. A copy is removed
// when the other one is whole on the same backend; until it is, this one may be all that there will be, and reconcile
// decides.
func (s *save) giveUp(ctx context.Context, by string) {
	if s.rec.SupersededBy != "" {
		return
	}
	why := s.lostTo(by)
	heir, err := s.cfg.Catalog.Get(ctx, by)
	if err != nil {
		heir = &Record{}
	}
	s.log.WarnContext(ctx, "save was taken over", "snapshot", s.rec.Name, "by", by, "state", heir.State.String())
	for i, b := range s.backends {
		l := &s.rec.Locations[i]
		if l.State != StateReady {
			continue
		}
		l.State, l.Error, l.UpdateTime = StateFailed, why.Error(), s.cfg.Now().UTC()
		if !heir.wholeOn(b.Name()) {
			continue
		}
		if err := s.removeCopy(ctx, b, s.rec); err != nil {
			s.log.WarnContext(ctx, "what a save has stored that was taken over is not removed; reconcile will", "snapshot", s.rec.Name, "backend", b.Name(), "error", err)
			continue
		}
		l.Size = 0
	}
	s.rec.SupersededBy, s.rec.State, s.rec.Error = by, StateFailed, why.Error()
	s.rec.Failures = append([]Failure{failureOf("", why)}, s.rec.Failures...)
}

// wholeOn reports whether nothing of the snapshot is missing, on this backend or elsewhere.
func (r *Record) wholeOn(backend string) bool {
	l := r.Location(backend)
	return r.State == StateReady && l != nil && l.State == StateReady
}

// settleSuperseded decides about a whole copy of a save that was taken over and died before it could remove it. It is
// removed once the save that has the request is READY and on the same backend; if that one came to nothing, the copy is
// the request's snapshot after all, and settleSuperseded returns false.
func (r *reconciliation) settleSuperseded(ctx context.Context, i int, rec *Record, loc *Location, data *Object, ch *change) bool {
	if rec.SupersededBy == "" {
		return false
	}
	heir, err := r.cfg.Catalog.ByRequestID(ctx, rec.RequestID)
	switch {
	case isNotFound(err), err == nil && (heir.Name == rec.Name || heir.State == StateFailed):
		rec.SupersededBy = ""
		return false
	case err != nil:
		r.fail(r.views[i], err)
		ch.unchanged[i] = true
		return true
	}
	state := StateFailed
	if heir.wholeOn(loc.Backend) && r.begin.Sub(data.ModTime) >= r.cfg.LeftoverAge {
		state = StateDeleting
	}
	r.mark(i, loc, state, data.Size, "it was taken over by "+heir.Name+", and goes", ch)
	return true
}
