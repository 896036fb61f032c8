package cluster

import (
	"context"
	"errors"
	"slices"

	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Delete removes a snapshot from the chosen backends, for good, and returns its record as it is then: nil when no
// copy is left. A copy that could not be removed is still in the record, DELETING where its removal has begun, and
// reconcile resumes it.
func (c *Cluster) Delete(ctx context.Context, req DeleteRequest) (rec *snapshot.Record, err error) {
	ctx, trace := span.Run(ctx, "snapshot delete", span.Cluster.String(c.cfg.Name), span.Snapshot.String(req.Name))
	defer func() { trace.End(err) }()
	if rec, err = c.Get(ctx, req.Name); err != nil {
		return nil, err
	}
	names, err := c.chosenFor(rec, req)
	if err == nil {
		err = c.deletable(rec, req, names)
	}
	if err != nil {
		return rec, err
	}
	if c.fallbacks != nil && len(names) == len(rec.Backends()) {
		release, err := c.fallbacks.Delete(ctx, rec)
		if err != nil {
			return rec, err
		}
		defer release()
	}
	// Retention needs a second look at the newest copy (confirm). A caller who deletes by name has decided.
	err = c.remove(ctx, rec, names, nil)
	if rec.Version == 0 {
		rec = nil
	}
	return rec, err
}

// chosenFor returns the locations of a snapshot that a request is about, by their backends. A backend that does not
// hold the snapshot is a mistake of the caller, and nothing is removed then.
func (c *Cluster) chosenFor(rec *snapshot.Record, req DeleteRequest) ([]string, error) {
	chosen := map[string]bool{}
	for _, given := range req.Backends {
		name, err := c.named("backends", given)
		if err != nil {
			name = given // the snapshot may be on a backend that is not configured here
		}
		if rec.Location(name) == nil {
			return nil, snapshot.Invalid("backends", "%q does not hold %s; it is on %s", given, rec.Name,
				snapshot.Join(rec.Backends()))
		}
		chosen[name] = true
	}
	all := rec.Backends()
	if len(req.Backends) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(b string) bool { return !chosen[b] }), nil
}

// deletable says why a snapshot may not be removed from these backends. Each of them is looked at before any copy
// goes: a snapshot that is half removed helps no one.
func (c *Cluster) deletable(rec *snapshot.Record, req DeleteRequest, names []string) error {
	if err := rec.CheckEtag(req.Etag); err != nil {
		return err
	}
	if err := rec.CheckIdle(); err != nil {
		return err
	}
	if rec.Pinned {
		return snapshot.ReasonPinned.New("delete %s: it is pinned", rec.Name).
			Advise("unpin it first: snapshotd update %s --unpin", rec.Name)
	}
	if err := c.node.FallbackElsewhere(rec, "delete %s: nothing was removed", rec.Name); err != nil {
		return err
	}
	for _, name := range names {
		switch {
		case c.node.Elsewhere(name):
			return c.node.OnOther([]string{name}, "delete %s: nothing was removed", rec.Name)
		case c.repo(name) == nil && rec.HoldsObject(name):
			return snapshot.ReasonBackendNotFound.
				New("delete %s: backend %q holds it and is not configured any more", rec.Name, name).On(name).
				Advise("configure it again, or choose the other backends")
		}
	}
	return nil
}

// remove removes a snapshot from backends: its record becomes DELETING, the manifest on each of them gets a mark,
// then the data is removed, then the manifest, then the location. Reconcile resumes an interrupted removal from the
// mark, and takes a record that is DELETING without the mark back: nothing in the catalog alone removes bytes. rec
// becomes the record of the catalog; its Version is 0 when no copy is left. confirm, unless it is nil, is called once
// every replica can see that the copies are being removed: its error takes that back.
func (c *Cluster) remove(ctx context.Context, rec *snapshot.Record, names []string, confirm func() error) error {
	before := rec.Copy()
	var errs []error
	begun := map[string]*repository.Removal{} // by backend; nil where there is only the note of a failed upload
	for _, name := range names {
		var removal *repository.Removal
		if rec.HoldsObject(name) {
			var err error
			if removal, err = c.repo(name).BeginRemoval(ctx, rec); err != nil {
				errs = append(errs, err)
				continue
			}
			rec.Deleting(name, c.cfg.Now())
		}
		begun[name] = removal
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, ok := begun[name]; return !ok })
	if len(begun) == 0 {
		return errors.Join(errs...)
	}
	if err := c.cfg.Records.Update(ctx, rec); err != nil {
		return snapshot.ChangedMeanwhile(err, "delete %s", rec.Name)
	}
	// From here on every replica can see that the copies go. It is not yet final: without a mark on a backend,
	// reconcile takes the record back.
	fault.Point("deleting")
	if confirm != nil {
		if err := confirm(); err != nil {
			// Nothing is marked yet, so the record goes back as a whole. Its version is that of the change to take
			// back.
			before.Version = rec.Version
			*rec = *before
			kept := snapshot.ChangedMeanwhile(c.cfg.Records.Update(ctx, rec), "keep %s", rec.Name)
			return errors.Join(append(errs, err, kept)...)
		}
	}
	for _, name := range names {
		if removal := begun[name]; removal != nil {
			if err := removal.Mark(ctx); err != nil {
				// It is tried again below.
				c.log.WarnContext(ctx, "copy not marked as removed", "snapshot", rec.Name, "backend", name, "error", err)
			}
		}
	}
	fault.Point("marked")
	return errors.Join(append(errs, c.finishRemoval(ctx, rec, names, begun))...)
}

// finishRemoval removes the objects of locations that are DELETING, and then the locations. begun has the removals that
// this process has begun, by backend; nil when it resumes one of another replica.
func (c *Cluster) finishRemoval(
	ctx context.Context, rec *snapshot.Record, names []string, begun map[string]*repository.Removal,
) error {
	var errs []error
	for _, name := range names {
		if rec.HoldsObject(name) {
			remove := c.repo(name).Remove
			if removal := begun[name]; removal != nil {
				remove = func(ctx context.Context, _ *snapshot.Record) error { return removal.Finish(ctx) }
			}
			if err := remove(ctx, rec); err != nil {
				errs = append(errs, err)
				rec.RemovalFailed(name, err)
				continue
			}
			c.observe(ctx, snapshot.Event{Type: snapshot.EventDeleted, Backend: name, Name: rec.Name, Snapshot: rec.Clone()})
		}
		rec.DropBackend(name)
	}
	fault.Point("deleted")
	// The record goes last. As long as it is there, it says where the rest is.
	if len(rec.Locations()) > 0 {
		return errors.Join(append(errs, snapshot.ChangedMeanwhile(c.cfg.Records.Update(ctx, rec), "delete %s", rec.Name))...)
	}
	err := c.cfg.Records.Remove(ctx, rec)
	if err == nil {
		rec.Version = 0
		c.log.InfoContext(ctx, "snapshot deleted", "snapshot", rec.Name)
	}
	return snapshot.ChangedMeanwhile(err, "delete %s", rec.Name)
}

// removalBegun reports whether a removal comes before anything else about the record. One that its own replica makes in
// a directory elsewhere keeps nothing here from being reconciled.
func (r *reconciliation) removalBegun(rec *snapshot.Record) bool {
	return slices.ContainsFunc(rec.Locations(), func(l snapshot.Location) bool {
		return l.State == snapshot.StateDeleting && l.Size > 0 && !r.c.node.Elsewhere(l.Backend)
	})
}

// reconcileRemoval reconciles a record with a location that is DELETING. Everything else about the record is left to
// the next reconciliation.
func (r *reconciliation) reconcileRemoval(ctx context.Context, it item, rec *snapshot.Record, e *effect) error {
	taken := false // a location was taken back
	for i, v := range r.views {
		l := rec.Location(v.repo.Name())
		switch {
		case !it.known[i] || l == nil:
			continue
		case l.State != snapshot.StateDeleting || l.Size == 0:
			e.on[i].unchanged = true
			continue
		}
		resume, back, err := r.removalOf(ctx, v, rec, it.groups[i])
		switch {
		case err != nil:
			r.cmp.failObject(v, err)
		case back != nil:
			e.note(i, rec.Found(*back))
			taken = true
		case !resume:
			e.on[i].unchanged = true
		case r.req.ValidateOnly:
			e.on[i].removed = true
		default:
			done, err := r.resumeRemoval(ctx, v, rec)
			if errors.Is(err, errOthersRemoval) {
				return r.commit(ctx, it, it.rec, newEffect(len(r.views)), false)
			}
			if err != nil {
				return err
			}
			e.on[i].removed = done
		}
	}
	if rec.Version == 0 {
		rec = nil
	}
	return r.commit(ctx, it, rec, e, taken && rec != nil)
}

// removalOf decides about a location that is DELETING: whether its removal goes on, or how the location reads
// otherwise. Both are left open for a while after the removal began, because its replica may be at work.
func (r *reconciliation) removalOf(
	ctx context.Context, v *view, rec *snapshot.Record, g *repository.Group,
) (resume bool, back *snapshot.Location, err error) {
	data := v.repo.DataOf(g, rec)
	// The replica that has begun the removal writes the mark a moment after the record.
	young := r.begin.Sub(rec.Location(v.repo.Name()).UpdateTime) < min(youngAge, r.c.cfg.LeftoverAge)
	if rec.Trigger == snapshot.TriggerAdopted || g == nil || !g.Manifest {
		switch {
		case data == nil:
			gone, err := v.repo.ConfirmGone(ctx, rec, v.store)
			return gone, nil, err
		case young:
			return false, nil, nil
		}
		l := r.cmp.failedLocation(v, rec, data.Size, snapshot.ManifestMissing)
		if rec.Trigger == snapshot.TriggerAdopted {
			// Its state before is not known. Without a note of when it was seen, the next reconcile reads the file
			// again.
			l.State, l.Error = snapshot.StateReady, ""
			delete(rec.Seen, v.repo.Name())
		}
		return false, &l, nil
	}
	m, err := v.repo.ReadManifest(ctx, rec.Name)
	switch {
	case snapshot.IsNotFound(err):
		return false, nil, nil // it is being removed just now
	case err != nil:
		return false, nil, err
	case !m.Removed.IsZero():
		return true, nil, nil
	case young:
		return false, nil, nil
	}
	r.c.log.WarnContext(ctx, "record says DELETING and its manifest does not; the copy stays", "snapshot", rec.Name,
		"backend", v.repo.Name())
	l := r.cmp.compare(v, rec, m.Record, data)
	return false, &l, nil
}

// errOthersRemoval says that another replica goes on with a removal.
var errOthersRemoval = errors.New("another replica goes on with the removal")

// resumeRemoval goes on with the removal of one copy.
func (r *reconciliation) resumeRemoval(ctx context.Context, v *view, rec *snapshot.Record) (done bool, err error) {
	err = r.c.finishRemoval(ctx, rec, []string{v.repo.Name()}, nil)
	switch {
	case err == nil:
		r.mu.Lock()
		r.changes++
		r.mu.Unlock()
		return true, nil
	case errors.Is(err, snapshot.ErrConflict): // the repository's own conflicts are for good
		return false, errOthersRemoval
	case snapshot.BackendOf(err) != "":
		r.cmp.failObject(v, err)
		return false, nil
	}
	return false, err
}

// resumeUnrecorded goes on with a removal whose mark is in a manifest, though the catalog does not know it: the
// catalog came back from the past, or lost the record. It reports whether the copy is gone.
func (x *comparison) resumeUnrecorded(ctx context.Context, v *view, m *repository.Manifest) (gone bool) {
	if x.validateOnly {
		return false
	}
	if err := v.repo.ResumeRemoval(ctx, m); err != nil {
		x.failObject(v, err)
		return false
	}
	x.c.log.InfoContext(ctx, "interrupted removal of a copy ended", "snapshot", m.Record.Name, "backend", v.repo.Name(),
		"begun", m.Removed)
	x.c.observe(ctx, snapshot.Event{Type: snapshot.EventDeleted, Backend: v.repo.Name(), Name: m.Record.Name,
		Snapshot: &m.Record.Snapshot})
	return true
}
