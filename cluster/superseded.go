package cluster

import (
	"context"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// reconcileSuperseded decides about a whole copy of a save that was taken over and died before it could remove the
// copy. The copy is removed once the save that has the request is READY and on the same backend. If that save came to
// nothing, the copy is the request's snapshot after all, and reconcileSuperseded returns false.
func (x *comparison) reconcileSuperseded(
	ctx context.Context, i int, rec *snapshot.Record, data *repository.Object, e *effect,
) bool {
	if rec.SupersededBy() == "" {
		return false
	}
	v := x.views[i]
	heir, err := x.c.cfg.Saves.ByRequestID(ctx, rec.RequestID)
	switch {
	case snapshot.IsNotFound(err),
		err == nil && (heir.Name == rec.Name || heir.State() == snapshot.StateFailed || x.outOfReach(v, heir)):
		rec.Reinstate()
		return false
	case err != nil:
		x.failObject(v, err)
		e.on[i].unchanged = true
		return true
	}
	loc := x.location(v, rec)
	loc.State, loc.Size, loc.Error = snapshot.StateFailed, data.Size,
		"it was taken over by "+heir.Name+", and is to be removed"
	if witness := x.witness(v, heir); witness != nil && x.begin.Sub(data.ModTime) >= x.c.cfg.LeftoverAge &&
		!x.validateOnly {
		switch err := removeSuperseded(ctx, v.repo, rec, heir, witness); {
		case err != nil:
			x.failObject(v, err)
		default:
			loc.Size = 0
		}
	}
	e.note(i, rec.Found(loc))
	return true
}

// witness returns the backend that can show that a snapshot which has taken a request over is whole; nil when there
// is none yet. For a copy in this node's own directory, which the other save could not write to, a shared backend
// will do.
func (x *comparison) witness(v *view, heir *snapshot.Record) *repository.Repository {
	for _, repo := range x.c.repos {
		sees := repo == v.repo || local(v.repo) && !local(repo)
		if sees && heir.WholeOn(repo.Name()) {
			return repo
		}
	}
	return nil
}

// outOfReach reports whether a snapshot that has taken a request over is READY in directories of other nodes alone.
// Then only the catalog shows it, and that is not enough to remove the copy here: this becomes a snapshot of its own
// again.
func (x *comparison) outOfReach(v *view, heir *snapshot.Record) bool {
	return local(v.repo) && heir.State() == snapshot.StateReady &&
		len(x.c.node.ReadyElsewhere(heir)) == len(heir.Locations())
}

// removeSuperseded removes a copy of a save that was taken over, if the witness itself shows that the request has
// another snapshot: both manifests name the same request, and the other is whole. That the catalog says so is not
// enough.
func removeSuperseded(
	ctx context.Context, repo *repository.Repository, rec, heir *snapshot.Record, witness *repository.Repository,
) error {
	shown, err := witness.Shown(ctx, heir.Name)
	if err != nil {
		return err
	}
	own, err := repo.ReadManifest(ctx, rec.Name)
	if err != nil {
		return err
	}
	if shown.RequestID != rec.RequestID || own.Record.RequestID != rec.RequestID || rec.RequestID == "" {
		return snapshot.ReasonConflict.New("backend %q: %s is said to be superseded by %s, which is of another request",
			witness.Name(), rec.Name, heir.Name).On(witness.Name()).Final().Advise(snapshot.ChangedRecord)
	}
	return repo.Remove(ctx, rec)
}
