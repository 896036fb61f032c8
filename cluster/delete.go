package cluster

import (
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Delete removes a snapshot from the chosen backends, for good, and returns its record as it is then: nil when no copy is
// left. A copy that could not be removed is still in the record, DELETING where its removal has begun, and reconcile
// resumes it.
func (c *Cluster) Delete(ctx context.Context, req DeleteRequest) (rec *snapshot.Record, err error) {
	ctx, span := tracer.Start(ctx, "snapshot delete")
	span.SetAttributes(attribute.String("cluster", c.cfg.Name), attribute.String("snapshot", req.Name))
	defer func() { endSpan(span, err) }()
	if rec, err = c.Get(ctx, req.Name); err != nil {
		return nil, err
	}
	if err := c.deletable(rec, req); err != nil {
		return rec, err
	}
	var names []string // each once, however often the request names it
	for _, l := range rec.Locations() {
		if len(req.Backends) == 0 || slices.Contains(req.Backends, l.Backend) {
			names = append(names, l.Backend)
		}
	}
	err = c.remove(ctx, rec, names, nil)
	if rec.Version == 0 {
		rec = nil
	}
	return rec, err
}

// deletable says why a snapshot may not be removed as the request asks.
func (c *Cluster) deletable(rec *snapshot.Record, req DeleteRequest) error {
	if err := checkEtag(rec, req.Etag); err != nil {
		return err
	}
	if rec.State() == snapshot.StateSaving {
		return c.saveInProgress("and " + rec.Name + " is its snapshot")
	}
	if rec.Pinned {
		return snapshot.ReasonPinned.New("delete %s: it is pinned", rec.Name).Advise("unpin it first: snapshotd update %s --unpin", rec.Name)
	}
	for _, n := range req.Backends {
		if rec.Location(n) == nil {
			var holders []string
			for _, l := range rec.Locations() {
				holders = append(holders, l.Backend)
			}
			return snapshot.Invalid("backends", "%q does not hold %s; it is on %s", n, rec.Name, snapshot.Join(holders))
		}
	}
	for _, l := range rec.Locations() {
		chosen := len(req.Backends) == 0 || slices.Contains(req.Backends, l.Backend)
		if chosen && c.repo(l.Backend) == nil && l.Size > 0 {
			return snapshot.ReasonBackendNotFound.New("delete %s: backend %q holds it and is not configured any more", rec.Name, l.Backend).
				On(l.Backend).Advise("configure it again, or choose the other backends")
		}
	}
	return nil
}

// checkEtag returns an error when a record is not the one that was read. An empty etag matches any.
func checkEtag(rec *snapshot.Record, etag string) error {
	if etag == "" || etag == rec.Etag {
		return nil
	}
	e := snapshot.ReasonEtagMismatch.New("etag: snapshot %q has %s now and not %s", rec.Name, rec.Etag, etag).
		Advise("get it again, and decide anew")
	e.Field = "etag"
	return e
}

// remove removes a snapshot from backends: its record becomes DELETING, then the manifest is removed, then the data, then
// the location. Reconcile resumes a removal that was interrupted. rec becomes the record of the catalog; its Version is 0
// when no copy is left. confirm, unless it is nil, is called once every replica can see that the copies are being removed:
// its error takes that back.
func (c *Cluster) remove(ctx context.Context, rec *snapshot.Record, names []string, confirm func() error) error {
	before := rec.Copy()
	var errs []error
	var begun []string
	for _, name := range names {
		if rec.Location(name).Size == 0 {
			begun = append(begun, name) // there is only the note of a failed upload
			continue
		}
		if err := c.repo(name).Removable(ctx, rec); err != nil {
			errs = append(errs, err)
			continue
		}
		rec.Deleting(name, c.cfg.Now())
		begun = append(begun, name)
	}
	if len(begun) == 0 {
		return errors.Join(errs...)
	}
	if err := c.cfg.Records.Update(ctx, rec); err != nil {
		return changedMeanwhile(err, "delete %s", rec.Name)
	}
	fault.Point("deleting")
	if confirm != nil {
		if err := confirm(); err != nil {
			before.Version = rec.Version
			*rec = *before
			return errors.Join(append(errs, err, changedMeanwhile(c.cfg.Records.Update(ctx, rec), "keep %s", rec.Name))...)
		}
	}
	return errors.Join(append(errs, c.finishRemoval(ctx, rec, begun))...)
}

// finishRemoval removes the objects of locations that are DELETING, and then the locations.
func (c *Cluster) finishRemoval(ctx context.Context, rec *snapshot.Record, names []string) error {
	var errs []error
	for _, name := range names {
		if rec.Location(name).Size > 0 {
			if err := c.repo(name).Remove(ctx, rec); err != nil {
				errs = append(errs, err)
				rec.RemovalFailed(name, err)
				continue
			}
			c.observe(ctx, snapshot.Event{Type: snapshot.EventDeleted, Backend: name, Name: rec.Name, Snapshot: rec.Snapshot.Clone()})
		}
		rec.DropBackend(name)
	}
	fault.Point("deleted")
	if len(rec.Locations()) > 0 {
		return errors.Join(append(errs, changedMeanwhile(c.cfg.Records.Update(ctx, rec), "delete %s", rec.Name))...)
	}
	err := c.cfg.Records.Remove(ctx, rec)
	if err == nil {
		rec.Version = 0
		c.log.InfoContext(ctx, "snapshot deleted", "snapshot", rec.Name)
	}
	return changedMeanwhile(err, "delete %s", rec.Name)
}

// resumeRemoval goes on with a removal that was interrupted. Everything else about the record is left to the next
// reconciliation.
func (r *reconciliation) resumeRemoval(ctx context.Context, it item, rec *snapshot.Record, ch *change) error {
	for i, v := range r.views {
		l := rec.Location(v.repo.Name())
		switch {
		case !it.known[i] || l == nil:
			continue
		case l.State != snapshot.StateDeleting || l.Size == 0:
			ch.unchanged[i] = true
			continue
		}
		ch.removed[i] = true
		if r.req.ValidateOnly {
			continue
		}
		err := r.c.finishRemoval(ctx, rec, []string{v.repo.Name()})
		switch {
		case err == nil:
			r.mu.Lock()
			r.changes++
			r.mu.Unlock()
		case snapshot.ReasonOf(err) == snapshot.ReasonConflict:
			return r.commit(ctx, it, it.rec, newChange(len(r.views)), false) // another replica goes on with it
		case snapshot.BackendOf(err) != "":
			ch.removed[i] = false
			r.fail(v, err)
		default:
			return err
		}
	}
	if rec.Version == 0 {
		rec = nil
	}
	return r.commit(ctx, it, rec, ch, false)
}
