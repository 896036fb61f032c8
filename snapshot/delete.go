package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/internal/fault"
)

// DeleteRequest asks for a snapshot to be removed.
type DeleteRequest struct {
	Name     string
	Backends []string // names; all that hold it when empty
	Etag     string   // when set, only the record as it was read
}

// Delete removes a snapshot from the chosen backends, for good, and returns its record as it is then: nil when nothing is
// left of it. What could not be removed is still in the record, DELETING where its removal has begun, and reconcile goes
// on with it.
func (c *Cluster) Delete(ctx context.Context, req DeleteRequest) (rec *Record, err error) {
	ctx, span := tracer.Start(ctx, "snapshot delete")
	span.SetAttributes(attribute.String("cluster", c.cfg.Name), attribute.String("snapshot", req.Name))
	defer func() { endSpan(span, err) }()
	if rec, err = c.Get(ctx, req.Name); err != nil {
		return nil, err
	}
	if err := c.deletable(rec, req); err != nil {
		return rec, err
	}
	var names []string // each once, however often it was asked for
	for _, l := range rec.Locations {
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

// deletable says why a snapshot may not be removed as it is asked for.
func (c *Cluster) deletable(rec *Record, req DeleteRequest) error {
	if err := checkEtag(rec, req.Etag); err != nil {
		return err
	}
	if rec.State == StateSaving {
		return c.saveInProgress(fmt.Sprintf("and %s is what it saves", rec.Name))
	}
	if rec.Pinned {
		return &Error{Reason: ReasonPinned, Message: fmt.Sprintf("delete %s: it is pinned", rec.Name), Hint: fmt.Sprintf("unpin it first: snapshotd update %s --unpin", rec.Name)}
	}
	for _, n := range req.Backends {
		if rec.Location(n) == nil {
			return Invalid("backends", "%q does not hold %s; it is on %s", n, rec.Name, listed(locationNames(rec)))
		}
	}
	for _, l := range rec.Locations {
		chosen := len(req.Backends) == 0 || slices.Contains(req.Backends, l.Backend)
		if chosen && c.backend(l.Backend) == nil && l.Size > 0 {
			return &Error{
				Reason: ReasonBackendNotFound, Backend: l.Backend,
				Message: fmt.Sprintf("delete %s: backend %q holds it and is not configured any more", rec.Name, l.Backend),
				Hint:    "configure it again, or choose the other backends",
			}
		}
	}
	return nil
}

// checkEtag says that a record is not the one that was read. An empty etag is any.
func checkEtag(rec *Record, etag string) error {
	if etag == "" || etag == rec.Etag {
		return nil
	}
	return &Error{
		Reason: ReasonEtagMismatch, Field: "etag",
		Message: fmt.Sprintf("etag: snapshot %q has %s by now and not %s", rec.Name, rec.Etag, etag), Hint: "get it again, and decide anew",
	}
}

func locationNames(rec *Record) []string {
	var names []string
	for _, l := range rec.Locations {
		names = append(names, l.Backend)
	}
	return names
}

// remove removes a snapshot from backends: the record says DELETING, then the manifest goes, then the data, then the
// location. Whoever is interrupted leaves it to reconcile. rec becomes what the catalog has; its Version is 0 when nothing
// is left. still, unless it is nil, is asked once everybody can see that the copies are being removed: its error takes that back.
func (c *Cluster) remove(ctx context.Context, rec *Record, names []string, still func() error) error {
	before := rec.Clone()
	var errs []error
	var begun []string
	for _, name := range names {
		l := rec.Location(name)
		if l.Size == 0 {
			begun = append(begun, name) // there is nothing but the note of a failed upload
			continue
		}
		if err := c.removable(ctx, c.backend(name), rec); err != nil {
			errs = append(errs, err)
			continue
		}
		l.State, l.Error, l.UpdateTime = StateDeleting, "", c.cfg.Now().UTC()
		begun = append(begun, name)
	}
	if len(begun) == 0 {
		return errors.Join(errs...)
	}
	setState(&rec.Snapshot)
	if err := c.cfg.Catalog.Update(ctx, rec); err != nil {
		return c.changedMeanwhile("delete "+rec.Name, err)
	}
	fault.Point("deleting")
	if still != nil {
		if err := still(); err != nil {
			before.Version = rec.Version
			*rec = *before
			return errors.Join(append(errs, err, c.changedMeanwhile("keep "+rec.Name, c.cfg.Catalog.Update(ctx, rec)))...)
		}
	}
	return errors.Join(append(errs, c.finishRemoval(ctx, rec, begun))...)
}

// finishRemoval removes the objects of locations whose record says DELETING, and then the locations.
func (c *Cluster) finishRemoval(ctx context.Context, rec *Record, names []string) error {
	var errs []error
	for _, name := range names {
		l := rec.Location(name)
		if l.Size > 0 {
			if err := c.removeCopy(ctx, c.backend(name), rec); err != nil {
				errs = append(errs, err)
				l.Error = err.Error()
				continue
			}
			c.cfg.Observer.Deleted(ctx, c.cfg.Name, name)
			c.publish(Event{Type: EventDeleted, Backend: name, Name: rec.Name, Snapshot: rec.Snapshot.Clone()})
		}
		rec.Locations = slices.DeleteFunc(rec.Locations, func(l Location) bool { return l.Backend == name })
	}
	fault.Point("deleted")
	if len(rec.Locations) > 0 {
		rec.Failures = slices.DeleteFunc(rec.Failures, func(f Failure) bool { return f.Backend != "" && rec.Location(f.Backend) == nil })
		setState(&rec.Snapshot)
		return errors.Join(append(errs, c.changedMeanwhile("delete "+rec.Name, c.cfg.Catalog.Update(ctx, rec)))...)
	}
	err := c.cfg.Catalog.Remove(ctx, rec)
	if err == nil {
		rec.Version = 0
		c.log.InfoContext(ctx, "snapshot deleted", "snapshot", rec.Name)
	}
	return c.changedMeanwhile("delete "+rec.Name, err)
}

func (c *Cluster) changedMeanwhile(what string, err error) error {
	if !errors.Is(err, ErrConflict) {
		return err
	}
	return &Error{Reason: ReasonConflict, Message: what, Err: err, Hint: "look at it again, and decide anew", Retry: retryAfter(ReasonConflict)}
}

// removable says why a backend must not or will not remove a copy: it is another store, what lies there is another
// snapshot, or it is locked.
func (c *Cluster) removable(ctx context.Context, b Backend, rec *Record) error {
	unverified, err := c.openStore(ctx, b, storeCheck{})
	if err = errors.Join(err, unverified); err != nil {
		return err
	}
	if err := c.unlocked(ctx, b, rec); err != nil && !isNotFound(err) {
		return err
	}
	if rec.Trigger == TriggerAdopted {
		return c.sameFile(ctx, b, rec)
	}
	doc, err := readSmall(ctx, b, c.key(ManifestKey(rec.Name)))
	if isNotFound(err) || errors.Is(err, errTooLarge) { // then it is damaged, as one that cannot be decoded
		return nil
	}
	if err != nil {
		return err
	}
	found, err := decodeManifest(bytes.TrimSpace(doc))
	if err != nil {
		return nil //nolint:nilerr // it is damaged, under the name of a snapshot of this cluster
	}
	if found.Name != rec.Name || found.Cluster != c.cfg.Name || found.StoredSHA256 != rec.StoredSHA256 {
		return &Error{
			Reason: ReasonConflict, Backend: b.Name(),
			Message: fmt.Sprintf("backend %q: the manifest under %s is that of snapshot %q of cluster %q (sha256 %s)", b.Name(), ManifestKey(rec.Name), found.Name, found.Cluster, found.StoredSHA256),
			Hint:    "it is not this snapshot and was left alone; reconcile, and look at the backend",
		}
	}
	return nil
}

// sameFile says that an adopted snapshot's file is not the one that was adopted, as far as its size shows that.
func (c *Cluster) sameFile(ctx context.Context, b Backend, rec *Record) error {
	o, err := b.Stat(ctx, c.key(rec.File))
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if l := rec.Location(b.Name()); l != nil && l.Size != o.Size {
		return &Error{
			Reason: ReasonConflict, Backend: b.Name(), Message: fmt.Sprintf("backend %q: %s has %d bytes and was adopted with %d", b.Name(), rec.File, o.Size, l.Size),
			Hint: "it was replaced, and was left alone; reconcile, and look again",
		}
	}
	return nil
}

// removeCopy removes the manifest and then the data: without its manifest, what is left is no snapshot.
func (c *Cluster) removeCopy(ctx context.Context, b Backend, rec *Record) error {
	if err := c.removable(ctx, b, rec); err != nil {
		return err
	}
	if rec.Trigger != TriggerAdopted { // beside those of others, it is somebody else's
		if err := b.Delete(ctx, c.key(ManifestKey(rec.Name))); err != nil {
			return err
		}
	}
	fault.Point("manifest-deleted")
	return b.Delete(ctx, c.key(rec.DataKey()))
}

// deleting reports whether a copy of a snapshot is being removed, or was when somebody died.
func deleting(rec *Record) bool {
	return slices.ContainsFunc(rec.Locations, func(l Location) bool { return l.State == StateDeleting && l.Size > 0 })
}

// settleDeleting goes on with a removal that was interrupted. What else there is to settle is left to the next
// reconciliation.
func (r *reconciliation) settleDeleting(ctx context.Context, it item, rec *Record, ch *change) error {
	for i, v := range r.views {
		l := rec.Location(v.b.Name())
		switch {
		case !it.known[i] || l == nil:
			continue
		case l.State != StateDeleting || l.Size == 0:
			ch.unchanged[i] = true
			continue
		}
		ch.removed[i] = true
		if r.dry {
			continue
		}
		err := r.finishRemoval(ctx, rec, []string{v.b.Name()})
		switch e, ok := errors.AsType[*Error](err); {
		case err == nil:
			r.changed()
		case ok && e.Reason == ReasonConflict:
			return r.commit(ctx, it, it.rec, newChange(len(r.views)), false) // somebody else goes on with it
		case ok && e.Backend != "":
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

func (r *reconciliation) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
}
