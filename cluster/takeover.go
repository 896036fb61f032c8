package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/snapshotd/snapshotd/cluster/amend"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A save may be taken for dead while it is only paused, and another replica then takes its request over. Two rules keep
// the request from having two snapshots. The replica that takes over first reconciles the leftovers of the other save:
// if they are whole anywhere it is the outcome, else its record is marked in the transaction that begins the new save.
// A save that finds its record marked, or its request with another snapshot, tells no caller about its own copies, and
// removes them once the other snapshot is whole.

// repeated returns the record that the request with this id led to, nil when it is new, and whether the request has its
// outcome. A catalog that does not answer is no error: the save must go on without it.
func (c *Cluster) repeated(ctx context.Context, requestID string) (rec *snapshot.Record, answered bool, err error) {
	if requestID == "" {
		return nil, false, nil
	}
	err = amend.Retry(func() error {
		found, err := c.cfg.Saves.ByRequestID(ctx, requestID)
		if err != nil {
			rec = nil
			return nil //nolint:nilerr // not found, or the catalog is down; the lock finds out which
		}
		rec = found
		if rec.State() != snapshot.StateSaving {
			return nil
		}
		alive, err := c.ownerAlive(ctx, rec)
		if err != nil {
			return nil //nolint:nilerr // the catalog is down; the lock says so
		}
		if alive {
			return snapshot.SaveInProgress(c.cfg.Name, "by this very request, on another replica")
		}
		current, err := c.reconcileDead(ctx, rec)
		switch {
		case errors.Is(err, snapshot.ErrConflict):
			return err // another replica was faster
		case err == nil:
			rec = current
		}
		return nil
	})
	switch {
	case errors.Is(err, amend.ErrAlwaysChanged):
		return nil, false, snapshot.ReasonConflict.New("repeat request %q", requestID).Because(err)
	case err != nil:
		return nil, false, err
	}
	if rec == nil || !rec.HasOutcome() {
		return rec, false, nil
	}
	confirmed, err := c.confirmed(ctx, rec)
	return rec, confirmed, err
}

// confirmed reports whether the outcome of a request may be told. The catalog is no witness: a forged record may name
// the request of a scheduled run that is still to come. So the manifest of a copy has to name the request. A backend
// of the configuration that cannot be read proves nothing, and keeps no request from its outcome. Without any copy,
// only an error may be told again: it lets nobody believe that there is a snapshot.
func (c *Cluster) confirmed(ctx context.Context, rec *snapshot.Record) (bool, error) {
	ready, silent := rec.ReadyOn(), false
	for _, backend := range ready {
		repo := c.repo(backend)
		if repo == nil {
			_, elsewhere := c.rulesOf(backend)
			silent = silent || elsewhere
			continue
		}
		m, err := repo.ReadManifest(ctx, rec.Name)
		switch {
		case ctx.Err() != nil:
			return false, snapshot.Cancelled(ctx, "repeat request %q", rec.RequestID)
		case err == nil && m.Record.RequestID == rec.RequestID && m.Record.StoredSHA256 == rec.StoredSHA256:
			return true, nil
		case err != nil && !snapshot.IsNotFound(err) && !snapshot.IsDamage(err):
			silent = true
		}
	}
	failed := len(ready) == 0 && rec.State() == snapshot.StateFailed && len(rec.Failures()) > 0
	if silent || failed {
		return true, nil
	}
	c.log.WarnContext(ctx, "no manifest names the request of this record; it is no outcome", "snapshot", rec.Name,
		"request", rec.RequestID)
	return false, nil
}

// reconcileDead makes the record of a save whose owner is gone tell the truth about the backends. A backend that cannot
// be asked counts as holding nothing; reconcile looks again. ErrConflict when another replica was faster.
func (c *Cluster) reconcileDead(ctx context.Context, rec *snapshot.Record) (*snapshot.Record, error) {
	var views []*view
	it := item{name: rec.Name, rec: rec}
	for _, l := range rec.Locations() {
		repo := c.repo(l.Backend)
		if repo == nil {
			continue
		}
		g, err := repo.ListOne(ctx, rec)
		views = append(views, &view{repo: repo, store: repo.StoreID(), known: err == nil, report: BackendReport{Err: err}})
		it.groups, it.known = append(it.groups, g), append(it.known, err == nil)
	}
	next := rec.Copy()
	newComparison(c, views, false).reconcileInterrupted(ctx, it, next, newEffect(len(views)))
	for _, v := range views {
		if v.report.Err != nil {
			c.log.WarnContext(ctx, "leftovers of a dead save cannot be seen", "snapshot", rec.Name, "backend", v.repo.Name(),
				"error", v.report.Err)
		}
	}
	// A snapshot that is whole on some backend may be known to a caller as the outcome: it must stay that.
	if next.State() != snapshot.StateReady && next.State() != snapshot.StatePartial {
		return rec, nil // it is whole nowhere; the save that takes over marks the record
	}
	return next, c.cfg.Records.Update(ctx, next)
}

// lockLost reports whether the lock of this save is no longer known to be held: it may have been taken for dead. A
// replica that was paused cannot tell from its own clock for how long.
func (s *save) lockLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// takenOver returns an error when the lock was lost and another save has the request: then no manifest is to be
// written.
func (s *save) takenOver(ctx context.Context) error {
	if catalogued := s.uncatalogued == nil; !catalogued || !s.lockLost() {
		return nil
	}
	current, err := s.c.cfg.Records.Get(ctx, s.rec.Name)
	if err != nil || current.SupersededBy() == "" {
		return nil //nolint:nilerr // without the catalog the save goes on
	}
	if heir := s.heir(ctx, current.SupersededBy()); heir != nil {
		return s.lostTo(heir.Name)
	}
	return nil
}

// heir returns the record of the snapshot that is said to have this save's request, with its name alone when there is
// none; nil when it cannot have the request. The catalog is no witness: anybody may have written there what it says. A
// snapshot that is stored names its request in its manifest; one that is not, or cannot be read, may have this one.
func (s *save) heir(ctx context.Context, name string) *snapshot.Record {
	heir, err := s.c.cfg.Records.Get(ctx, name)
	if err != nil {
		heir = &snapshot.Record{Snapshot: snapshot.Snapshot{Name: name}}
	}
	may := s.rec.RequestID != ""
	for _, r := range s.c.repos {
		if l := heir.Location(r.Name()); !may || l == nil || l.State != snapshot.StateReady {
			continue
		}
		if m, err := r.ReadManifest(ctx, name); err == nil {
			may = m.Record.RequestID == s.rec.RequestID
		}
	}
	if may {
		return heir
	}
	s.c.log.WarnContext(ctx, "the catalog says that another snapshot has the request of this save, and it has not",
		"snapshot", s.rec.Name, "other", name)
	return nil
}

// lostTo is the error of a save whose request another replica has taken over. The caller may send the request again,
// and gets the outcome of the other save then.
func (s *save) lostTo(name string) error {
	return snapshot.ReasonInterrupted.
		New("save %s: this replica was taken for dead, and another one took the request over as %s", s.rec.Name, name).
		Advise("the same request returns that outcome")
}

// recheck looks again at the copies that this save has written, after the lock was lost or the record was changed;
// current is the record as it is now, nil when it was not read. A reconcile may have swept data that had no manifest
// yet, or may be about to (its location is DELETING): such a location holds nothing.
func (s *save) recheck(ctx context.Context, current *snapshot.Record) {
	for _, r := range s.chosen {
		if s.rec.Location(r.Name()).State != snapshot.StateReady {
			continue
		}
		err := r.Whole(ctx, s.rec)
		if err == nil && current != nil {
			if l := current.Location(r.Name()); l != nil && l.State == snapshot.StateDeleting {
				err = errors.New("reconcile is sweeping it")
			}
		}
		if err != nil {
			s.rec.Written(r.Name(), snapshot.ReasonInterrupted.
				New("backend %q: this replica was taken for dead, and its copy was not found again", r.Name()).
				On(r.Name()).Because(err).Advise("save again"), s.c.cfg.Now())
		}
	}
}

// adjust reads the record that could not be written because of a conflict, and adjusts this save's to it. It returns
// true when there is nothing more to write.
func (s *save) adjust(ctx context.Context, conflict error) (done bool, err error) {
	current, err := s.c.cfg.Records.Get(ctx, s.rec.Name)
	switch {
	case snapshot.IsNotFound(err):
		s.rec.Version, current = 0, &snapshot.Record{}
	case err != nil:
		return false, err
	case current.State() == snapshot.StateDeleting && current.SupersededBy() == "":
		return true, nil
	case s.rec.Version == 0 && current.Owner() != s.owner &&
		(s.rec.StoredSHA256 == "" || current.StoredSHA256 != s.rec.StoredSHA256):
		// Another snapshot has the name. The conflict is told, but not retried.
		return false, snapshot.ReasonConflict.New("record %s: another snapshot has this name", s.rec.Name).
			Because(errors.New(conflict.Error()))
	default:
		s.rec.Version = current.Version
	}
	if current.SupersededBy() != "" && s.yield(ctx, current.SupersededBy()) {
		return false, nil
	}
	s.recheck(ctx, current)
	return false, nil
}

// recordAnew adds a record that the catalog does not have: it was down, or the record was removed. If the request has a
// snapshot already, or is being saved, this save has lost it.
func (s *save) recordAnew(ctx context.Context) error {
	if s.rec.RequestID == "" {
		return s.c.cfg.Records.Create(ctx, s.rec)
	}
	other, err := s.c.cfg.Saves.ByRequestID(ctx, s.rec.RequestID)
	switch {
	case snapshot.IsNotFound(err):
		other = nil
	case err != nil:
		return err
	case other.Name == s.rec.Name:
		return fmt.Errorf("record %s: %w", s.rec.Name, snapshot.ErrExists)
	}
	if s.rec.SupersededBy() != "" {
		return s.c.cfg.Records.Create(ctx, s.rec)
	}
	if other == nil {
		return s.c.cfg.Saves.Begin(ctx, s.rec, nil)
	}
	lost := other.HasOutcome() && other.State() != snapshot.StateFailed
	if other.State() == snapshot.StateSaving {
		if lost, err = s.c.ownerAlive(ctx, other); err != nil {
			return err
		}
	}
	if lost && s.yield(ctx, other.Name) {
		return s.c.cfg.Records.Create(ctx, s.rec)
	}
	return s.c.cfg.Saves.Begin(ctx, s.rec, other.SupersedeBy(s.rec.Name))
}

// yield notes that the request has another snapshot, by its name, and that no caller is to be told of this one. A
// copy is removed when the manifests on its backend prove that. Until they do, this copy may become the only one, and
// reconcile decides. It returns false when the other snapshot cannot have the request.
func (s *save) yield(ctx context.Context, name string) bool {
	if s.rec.SupersededBy() != "" {
		return true
	}
	heir := s.heir(ctx, name)
	if heir == nil {
		return false
	}
	s.c.log.WarnContext(ctx, "save was taken over", "snapshot", s.rec.Name, "by", name, "state", heir.State().String())
	ready := s.rec.ReadyOn()
	s.rec.Yield(name, s.lostTo(name), s.c.cfg.Now())
	for _, backend := range ready {
		if !heir.WholeOn(backend) {
			continue
		}
		repo := s.c.repo(backend)
		if err := removeSuperseded(ctx, repo, s.rec, heir, repo); err != nil {
			s.c.log.WarnContext(ctx, "copy of a save that was taken over is not removed; reconcile will remove it",
				"snapshot", s.rec.Name, "backend", backend, "error", err)
			continue
		}
		s.rec.CopyRemoved(backend)
	}
	return true
}
