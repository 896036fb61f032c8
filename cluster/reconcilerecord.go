package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// failedAge is how long the record of a failed save is kept.
	failedAge = 24 * time.Hour
	// youngAge is how old a record must be before it may be removed, and another program's file before it is read: its
	// writer may still be at work.
	youngAge = time.Minute
	// rewriteTolerance is how much later than the catalog's note of a copy its manifest may say that it was written:
	// the clocks of a store and of this machine differ.
	rewriteTolerance = time.Minute
)

// reconcileRecord makes the record of one name tell the truth about the backends that are known. Its error ends the
// whole reconciliation; the error of one backend is noted in its view.
func (r *reconciliation) reconcileRecord(ctx context.Context, it item) error {
	if it.bad {
		r.leaveAlone(it)
		return nil
	}
	ch := newListed(it)
	if it.rec == nil {
		it.discovered = true
		return r.discover(ctx, it, ch)
	}
	rec := it.rec.Copy()
	// A removal is settled alone. With copies that come and go, nothing else about the record can be told for certain.
	if r.removalBegun(rec) {
		return r.reconcileRemoval(ctx, it, rec, ch)
	}
	if rec.State() != snapshot.StateSaving {
		r.reconcileLocations(ctx, it, rec, ch)
	} else if settled, err := r.settleSaving(ctx, it, rec, ch); err != nil || !settled {
		return err
	}
	if r.retire(ctx, rec, ch); len(rec.Locations()) == 0 && len(ch.retired) > 0 {
		return r.commit(ctx, it, nil, ch, true)
	}
	// Data that nobody was told of goes before the record that says so. Without the record it would be anybody's.
	left, err := r.sweepOrphans(ctx, it, rec)
	if errors.Is(err, snapshot.ErrConflict) {
		return r.commit(ctx, it, rec, newChange(len(r.views)), false) // another replica is at work; the next run looks again
	}
	if err != nil {
		return err
	}
	if !left && r.allSeen(it, rec) && !r.c.node.AnyElsewhere(rec) && r.forgettable(rec) {
		return r.commit(ctx, it, nil, ch, true)
	}
	return r.commit(ctx, it, rec, ch, !it.rec.SameStatus(rec) || it.rec.Generation != rec.Generation)
}

// newListed returns the effect of a name that is only counted where it was listed.
func newListed(it item) *change {
	ch := newChange(len(it.groups))
	for i, g := range it.groups {
		if g != nil && g.Manifest && len(g.Objects) > 0 {
			ch.listed[i] = true
		}
	}
	return ch
}

// commit writes the reconciled record of one name: rec nil removes it, write false leaves it as it is. A record that
// another replica changed meanwhile is left to the next reconciliation. One that another replica has just made is
// looked at again: that replica may not see the directory of this node, and the next reconciliation may be hours
// away.
func (r *reconciliation) commit(ctx context.Context, it item, rec *snapshot.Record, ch *change, write bool) error {
	if write && !r.req.ValidateOnly {
		err := r.write(ctx, it, rec)
		switch {
		case errors.Is(err, snapshot.ErrConflict), errors.Is(err, snapshot.ErrExists):
			if it.discovered && it.attempts < maxAttempts {
				return r.lookAgain(ctx, it)
			}
			r.leaveToNext(it)
			return nil
		case err != nil:
			return err
		}
	}
	r.count(rec, ch, write)
	return nil
}

// write brings the record of a name into the catalog, or out of it.
func (r *reconciliation) write(ctx context.Context, it item, rec *snapshot.Record) error {
	switch {
	case rec == nil:
		return r.c.cfg.Records.Remove(ctx, it.rec)
	case it.rec == nil:
		return r.c.cfg.Records.Create(ctx, rec)
	}
	return r.c.cfg.Records.Update(ctx, rec)
}

// maxAttempts is how often a record is looked at that all replicas make at once, because the catalog was lost.
const maxAttempts = 5

// lookAgain reconciles a name with the record that another replica has made of it.
func (r *reconciliation) lookAgain(ctx context.Context, it item) error {
	rec, err := r.c.cfg.Records.Get(ctx, it.name)
	if snapshot.IsNotFound(err) {
		r.leaveToNext(it)
		return nil
	}
	if err != nil {
		return err
	}
	it.rec, it.attempts = rec, it.attempts+1
	return r.reconcileRecord(ctx, it)
}

// leaveToNext does nothing about a name that another replica is at work on.
func (r *reconciliation) leaveToNext(it item) {
	r.c.log.Debug("record changed meanwhile; left to the next reconcile", "snapshot", it.name)
	if it.rec != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.byState[it.rec.State()]++
	}
}

// count adds a record, and the findings about it, to the results.
func (r *reconciliation) count(rec *snapshot.Record, ch *change, written bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec != nil {
		r.byState[rec.State()]++
		r.etcds.Note(&rec.Snapshot, r.begin)
		if rec.Proven().After(r.proven.Proven()) && len(rec.ReadyOn()) > 0 {
			r.proven = *rec
		}
	}
	if written {
		r.changes++
	}
	for _, backend := range ch.retired {
		r.retired[backend]++
	}
	r.queueRepair(rec)
	for i, v := range r.views {
		v.report.add(ch, i)
	}
}

// settleSaving decides about a save whose owner is gone. It returns false when the owner is at work, or when a backend
// that it was writing to cannot be seen.
func (r *reconciliation) settleSaving(ctx context.Context, it item, rec *snapshot.Record, ch *change) (bool, error) {
	alive, err := r.c.ownerAlive(ctx, rec)
	if err != nil {
		return false, err
	}
	if alive || r.c.inflight.Has(rec.Name) || !r.allSeen(it, rec) {
		r.mu.Lock()
		r.busy[rec.Name] = true
		r.mu.Unlock()
		return false, r.commit(ctx, it, rec, ch, false)
	}
	r.settleInterrupted(ctx, it, rec, ch)
	return true, nil
}

// ownerAlive reports whether the replica that saves a snapshot holds the save lock still. A record without an owner
// is of no save that runs. The lock is the only witness: the clock of a record, or the silence of a replica, proves
// nothing.
func (c *Cluster) ownerAlive(ctx context.Context, rec *snapshot.Record) (bool, error) {
	owner, err := c.cfg.Saves.LockOwner(ctx)
	return owner != "" && owner == rec.Owner(), err
}

// settleInterrupted makes the record of a save that was given up tell the truth about the backends.
func (r *reconciliation) settleInterrupted(ctx context.Context, it item, rec *snapshot.Record, ch *change) {
	why := rec.AssumeNothing()
	r.reconcileLocations(ctx, it, rec, ch)
	for _, l := range rec.Locations() {
		if r.c.node.Elsewhere(l.Backend) {
			l.Error = fmt.Sprintf("%s; the replica of node %s alone can tell whether its directory has a copy", why, snapshot.NodeOf(l.Backend))
			rec.Found(l)
		}
	}
	rec.ConcludeInterrupted(why)
	for i := range ch.unchanged {
		ch.updated[i] = ch.updated[i] || ch.unchanged[i]
		ch.unchanged[i] = false
	}
}

// allSeen reports whether every configured backend that the record names is known: locations that cannot be seen are
// not forgotten.
func (r *reconciliation) allSeen(it item, rec *snapshot.Record) bool {
	for _, l := range rec.Locations() {
		i := r.indexOf(l.Backend)
		if r.c.repo(l.Backend) != nil && (i < 0 || !it.known[i]) {
			return false
		}
	}
	return true
}

// forgettable reports whether a record is of no use any more: no location holds anything, and it is old enough. A
// record of a failed save stays until its leftovers are swept, that of an upload fallback as long as a replica has
// it, and that of another program's file as long as there is the file, which may be empty.
func (r *reconciliation) forgettable(rec *snapshot.Record) bool {
	locations := rec.Locations()
	if rec.FallbackNode() != "" || rec.Trigger == snapshot.TriggerAdopted && len(locations) > 0 {
		return false
	}
	for _, l := range locations {
		if l.State == snapshot.StateReady || l.State == snapshot.StateSaving || l.Size > 0 {
			return false
		}
	}
	age := r.begin.Sub(rec.CreateTime)
	if len(rec.Failures()) > 0 && len(locations) > 0 {
		return age >= max(failedAge, r.c.cfg.LeftoverAge)
	}
	return age >= youngAge
}

// location returns a location on a view's backend, without a state. Its time is that of the reconciliation, so that all
// locations that one run has found have the same.
func (r *reconciliation) location(v *view, rec *snapshot.Record) snapshot.Location {
	return v.repo.Location(rec, r.begin)
}

// failedLocation returns a location that does not hold the snapshot, and why.
func (r *reconciliation) failedLocation(v *view, rec *snapshot.Record, size int64, why string) snapshot.Location {
	l := r.location(v, rec)
	l.State, l.Size, l.Error = snapshot.StateFailed, size, why
	return l
}

// reconcileLocations compares a record's locations with the listings of the backends.
func (r *reconciliation) reconcileLocations(ctx context.Context, it item, rec *snapshot.Record, ch *change) {
	for i, v := range r.views {
		if !it.known[i] {
			continue
		}
		loc, g := rec.Location(v.repo.Name()), it.groups[i]
		data := v.repo.DataOf(g, rec)
		switch {
		case data == nil && loc == nil:
			if g != nil {
				r.countForeignGroup(ctx, v, g)
			}
		case data == nil:
			r.reconcileAbsent(ctx, i, rec, loc, ch)
		case rec.Trigger == snapshot.TriggerAdopted:
			r.reconcileAdopted(ctx, i, rec, loc, data, ch)
		case loc != nil && loc.State == snapshot.StateReady && g.Manifest && data.Size == loc.Size && !r.rewritten(v, g, loc):
			ch.unchanged[i] = true
			r.catchUp(ctx, v, rec)
		default:
			r.reconcilePresent(ctx, i, rec, g, data, ch)
		}
	}
	r.dropUnconfigured(rec, ch)
}

// rewritten reports whether a manifest was written after the catalog last learned of the copy, and has not been read
// since. It may be an older one that was put back, that of another snapshot, or carry the mark of a removal that the
// catalog has forgotten.
func (r *reconciliation) rewritten(v *view, g *repository.Group, loc *snapshot.Location) bool {
	if g.ManifestTime.Sub(loc.UpdateTime) <= rewriteTolerance {
		return false
	}
	read, ok := r.c.manifests.Get(v.repo.Name(), g.Name, r.begin)
	return !ok || !read.Equal(g.ManifestTime)
}

// dropUnconfigured drops locations on backends that are no longer configured: nothing can be learned about them. When
// no backend that was just seen holds the snapshot, they stay, because they say where it was last. When the backend
// comes back, its locations are taken in again.
func (r *reconciliation) dropUnconfigured(rec *snapshot.Record, ch *change) {
	seen := func(l snapshot.Location) bool {
		i := r.indexOf(l.Backend)
		return i >= 0 && ch.unchanged[i] && l.State == snapshot.StateReady
	}
	if slices.ContainsFunc(rec.Locations(), seen) {
		rec.Drop(func(l snapshot.Location) bool {
			return r.c.repo(l.Backend) == nil && !r.c.node.Elsewhere(l.Backend) && l.State != snapshot.StateSaving
		})
	}
}

// reconcileAbsent drops a location whose object is gone, which the backend must confirm. A location that never held
// anything stays: it says that an upload failed.
func (r *reconciliation) reconcileAbsent(ctx context.Context, i int, rec *snapshot.Record, loc *snapshot.Location, ch *change) {
	v := r.views[i]
	switch {
	case rec.Trigger == snapshot.TriggerAdopted: // there was a file, be it empty
	case loc.State == snapshot.StateDeleting: // it was swept, by a run that ended before it could say so
		ch.note(i, rec.Found(r.failedLocation(v, rec, 0, loc.Error)))
		return
	case loc.Size == 0:
		if r.noteExpired(v, rec) {
			rec.DropBackend(v.repo.Name())
		}
		ch.unchanged[i] = true
		return
	}
	gone, err := v.repo.ConfirmGone(ctx, rec, v.store)
	switch {
	case err != nil:
		r.fail(v, err)
	case !gone:
		ch.unchanged[i] = true
	default:
		rec.DropBackend(v.repo.Name())
		ch.removed[i] = true
	}
}

// noteExpired reports whether the note of a failed upload to this node's own directory has been kept long enough. No
// other replica may forget a record with such a note: it does not see whether the save has left something here.
func (r *reconciliation) noteExpired(v *view, rec *snapshot.Record) bool {
	return local(v.repo) && rec.State() == snapshot.StateFailed && rec.FallbackNode() == "" && len(rec.Locations()) > 1 &&
		r.begin.Sub(rec.CreateTime) >= max(failedAge, r.c.cfg.LeftoverAge)
}

// reconcilePresent notes data that the catalog does not have, or has otherwise.
func (r *reconciliation) reconcilePresent(ctx context.Context, i int, rec *snapshot.Record, g *repository.Group, data *repository.Object, ch *change) {
	v := r.views[i]
	loc := rec.Location(v.repo.Name())
	if !g.Manifest {
		if loc != nil && loc.Size > 0 { // otherwise it is the trace of a crash, or foreign: no caller was told that it is READY
			ch.note(i, rec.Found(r.failedLocation(v, rec, data.Size, "its manifest is missing")))
		}
		return
	}
	m, err := v.repo.ReadManifest(ctx, rec.Name)
	if err != nil {
		r.reconcileUnusable(ctx, i, rec, data, err, ch)
		return
	}
	if !m.Removed.IsZero() {
		if r.resumeUnrecorded(ctx, v, m); loc != nil && !r.req.ValidateOnly && !r.failed(v) {
			rec.DropBackend(v.repo.Name())
			ch.removed[i] = true
		}
		return
	}
	// An older manifest may unpin the snapshot, or take a label away. Somebody has put it back.
	if err := v.repo.Older(m, rec); err != nil && rec.StoredSHA256 != "" {
		r.reconcileUnusable(ctx, i, rec, data, err, ch)
		return
	}
	if err := v.repo.ConfirmListed(ctx, m.Record, data); err != nil {
		r.fail(v, err)
		ch.unchanged[i] = true
		return
	}
	if loc != nil && r.rewritten(v, g, loc) {
		r.c.manifests.Put(v.repo.Name(), g.Name, g.ManifestTime, r.begin)
	}
	learn(rec, m.Record)
	switch {
	case loc == nil:
		rec.Found(r.compare(v, rec, m.Record, data))
		ch.added[i] = true
	case !r.settleSuperseded(ctx, i, rec, data, ch):
		ch.note(i, rec.Found(r.compare(v, rec, m.Record, data)))
	}
}

// learn takes facts into a record that only the manifest knows: all of them after a save whose replica died, and an
// update of the snapshot that the catalog has forgotten because it came back from the past.
func learn(rec, found *snapshot.Record) {
	switch {
	case rec.StoredSHA256 == "":
		rec.Describe(found)
	case found.Generation > rec.Generation && found.StoredSHA256 == rec.StoredSHA256:
		rec.Labels, rec.Pinned, rec.Generation = found.Labels, found.Pinned, found.Generation
	}
}

// reconcileUnusable notes data beside a manifest that could not be read, or is not this snapshot's.
func (r *reconciliation) reconcileUnusable(ctx context.Context, i int, rec *snapshot.Record, data *repository.Object, err error, ch *change) {
	v := r.views[i]
	held := rec.Location(v.repo.Name()) != nil
	switch {
	case errors.Is(err, repository.ErrManifestUnusable):
		r.fail(v, err)
		r.c.log.WarnContext(ctx, "manifest is not this snapshot's", "backend", v.repo.Name(), "snapshot", rec.Name, "error", err)
		if held {
			ch.note(i, rec.Found(r.failedLocation(v, rec, data.Size, errBadManifest.Error())))
		}
	case snapshot.IsNotFound(err): // it was removed since it was listed
		if held {
			ch.note(i, rec.Found(r.failedLocation(v, rec, data.Size, errBadManifest.Error())))
		}
	default:
		r.fail(v, err)
		if held && snapshot.ReasonOf(err) == snapshot.ReasonManifestUntrusted {
			ch.note(i, rec.Found(r.failedLocation(v, rec, data.Size, err.Error())))
		}
	}
}

// compare returns the location of a record on a backend, as the manifest found there and the listing show it.
func (r *reconciliation) compare(v *view, rec, found *snapshot.Record, data *repository.Object) snapshot.Location {
	l := r.location(v, rec)
	if data != nil {
		l.Size = data.Size
	}
	l.State = snapshot.StateFailed
	switch {
	case data == nil:
		l.Error = "its data is missing"
	case found.StoredSHA256 != rec.StoredSHA256 || found.SHA256 != rec.SHA256:
		l.Error = "it holds another snapshot under this name"
	case l.Size != rec.StoredSize:
		l.Error = fmt.Sprintf("it has %d bytes instead of %d", l.Size, rec.StoredSize)
	case rec.Damaged(v.repo.Name()):
		// The listing does not show damage; the bytes were read by a repair or a verification.
		if have := rec.Location(v.repo.Name()); have != nil {
			l.Error = have.Error
		}
	default:
		l.State = snapshot.StateReady
	}
	return l
}
