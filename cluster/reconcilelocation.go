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

// rewriteTolerance is how much later than the catalog's note of a copy its manifest may say that it was written, when
// the catalog does not know when that was: the clocks of a store and of this machine differ.
const rewriteTolerance = time.Minute

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
		case loc != nil && loc.State == snapshot.StateReady && g.Manifest && data.Size == loc.Size && !r.rewritten(v, rec, g, loc):
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
func (r *reconciliation) rewritten(v *view, rec *snapshot.Record, g *repository.Group, loc *snapshot.Location) bool {
	if noted, ok := rec.Seen[loc.Backend]; ok && sameTime(noted, g.ManifestTime) ||
		!ok && g.ManifestTime.Sub(loc.UpdateTime) <= rewriteTolerance {
		return false
	}
	read, ok := r.c.manifests.Get(v.repo.Name(), g.Name, r.begin)
	return !ok || !read.Equal(g.ManifestTime)
}

// sameTime reports whether an answer about an object and a listing show the same time: S3 gives whole seconds in the
// one, and in the other, depending on the server, their fractions.
func sameTime(noted, listed time.Time) bool {
	return noted.Equal(listed) || noted.Nanosecond() == 0 && noted.Equal(listed.Truncate(time.Second))
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
	m := r.usableManifest(ctx, i, rec, data, ch)
	if m == nil {
		return
	}
	if loc != nil && r.rewritten(v, rec, g, loc) {
		r.c.manifests.Put(v.repo.Name(), g.Name, g.ManifestTime, r.begin)
	}
	learn(rec, m.Record)
	rec.Saw(v.repo.Name(), g.ManifestTime) // this alone is no reason to write the record
	switch {
	case loc == nil:
		rec.Found(r.compare(v, rec, m.Record, data))
		ch.added[i] = true
	case !r.settleSuperseded(ctx, i, rec, data, ch):
		ch.note(i, rec.Found(r.compare(v, rec, m.Record, data)))
	}
}

// usableManifest returns the manifest beside data; nil when there is none that describes the record's snapshot, which
// is noted then.
func (r *reconciliation) usableManifest(
	ctx context.Context, i int, rec *snapshot.Record, data *repository.Object, ch *change,
) *repository.Manifest {
	v := r.views[i]
	m, err := v.repo.ReadManifest(ctx, rec.Name)
	if err == nil && m.Removed.IsZero() && rec.StoredSHA256 != "" {
		err = v.repo.Older(m, rec) // it may unpin the snapshot, or take a label away: somebody has put it back
	}
	if err != nil {
		r.reconcileUnusable(ctx, i, rec, data, err, ch)
		return nil
	}
	if !m.Removed.IsZero() {
		r.resumeUnrecorded(ctx, v, m)
		if rec.Location(v.repo.Name()) != nil && !r.req.ValidateOnly && !r.failed(v) {
			rec.DropBackend(v.repo.Name())
			ch.removed[i] = true
		}
		return nil
	}
	if err := v.repo.ConfirmListed(ctx, m.Record, data); err != nil {
		r.fail(v, err)
		ch.unchanged[i] = true
		return nil
	}
	return m
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
