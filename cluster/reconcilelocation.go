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
func (x *comparison) location(v *view, rec *snapshot.Record) snapshot.Location {
	return v.repo.Location(rec, x.begin)
}

// failedLocation returns a location that does not hold the snapshot, and why.
func (x *comparison) failedLocation(v *view, rec *snapshot.Record, size int64, why string) snapshot.Location {
	l := x.location(v, rec)
	l.State, l.Size, l.Error = snapshot.StateFailed, size, why
	return l
}

// reconcileLocations compares a record's locations with the listings of the backends.
func (x *comparison) reconcileLocations(ctx context.Context, it item, rec *snapshot.Record, e *effect) {
	for i, v := range x.views {
		if !it.known[i] {
			continue
		}
		loc, g := rec.Location(v.repo.Name()), it.groups[i]
		data := v.repo.DataOf(g, rec)
		switch {
		case data == nil && loc == nil:
			if g != nil {
				x.countForeignGroup(ctx, v, g)
			}
		case data == nil:
			x.reconcileAbsent(ctx, i, rec, loc, e)
		case rec.Trigger == snapshot.TriggerAdopted:
			x.reconcileAdopted(ctx, i, rec, loc, data, e)
		// Nearly all names end here, without any request.
		case loc != nil && loc.State == snapshot.StateReady && g.Manifest && data.Size == loc.Size &&
			!x.rewritten(v, rec, g, loc):
			e.on[i].unchanged = true
			x.catchUp(ctx, v, rec)
		default:
			x.reconcilePresent(ctx, i, rec, g, data, e)
		}
	}
	x.dropUnconfigured(rec, e)
}

// rewritten reports whether a manifest was written after the catalog last learned of the copy, and has not been read
// since. It may be an older one that was put back, that of another snapshot, or carry the mark of a removal that the
// catalog has forgotten.
func (x *comparison) rewritten(v *view, rec *snapshot.Record, g *repository.Group, loc *snapshot.Location) bool {
	if noted, ok := rec.Seen[loc.Backend]; ok && sameTime(noted, g.ManifestTime) ||
		!ok && g.ManifestTime.Sub(loc.UpdateTime) <= rewriteTolerance {
		return false
	}
	read, ok := x.c.manifests.Get(v.repo.Name(), g.Name, x.begin)
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
func (x *comparison) dropUnconfigured(rec *snapshot.Record, e *effect) {
	seen := func(l snapshot.Location) bool {
		i := x.indexOf(l.Backend)
		return i >= 0 && e.on[i].unchanged && l.State == snapshot.StateReady
	}
	if slices.ContainsFunc(rec.Locations(), seen) {
		rec.Drop(func(l snapshot.Location) bool {
			return x.c.repo(l.Backend) == nil && !x.c.node.Elsewhere(l.Backend) && l.State != snapshot.StateSaving
		})
	}
}

// reconcileAbsent drops a location whose object is gone, which the backend must confirm. A location that never held
// anything stays: it says that an upload failed.
func (x *comparison) reconcileAbsent(
	ctx context.Context, i int, rec *snapshot.Record, loc *snapshot.Location, e *effect,
) {
	v := x.views[i]
	switch {
	case rec.Trigger == snapshot.TriggerAdopted: // there was a file, be it empty
	case loc.State == snapshot.StateDeleting: // it was swept, by a run that ended before it could say so
		e.note(i, rec.Found(x.failedLocation(v, rec, 0, loc.Error)))
		return
	case loc.Size == 0:
		if x.noteExpired(v, rec) {
			rec.DropBackend(v.repo.Name())
		}
		e.on[i].unchanged = true
		return
	}
	gone, err := v.repo.ConfirmGone(ctx, rec, v.store)
	switch {
	case err != nil:
		x.failObject(v, err)
	case !gone:
		e.on[i].unchanged = true
	default:
		rec.DropBackend(v.repo.Name())
		e.on[i].removed = true
	}
}

// noteExpired reports whether the note of a failed upload to this node's own directory has been kept long enough. No
// other replica may forget a record with such a note: it does not see whether the save has left something here.
func (x *comparison) noteExpired(v *view, rec *snapshot.Record) bool {
	return local(v.repo) && rec.State() == snapshot.StateFailed && rec.FallbackNode() == "" && len(rec.Locations()) > 1 &&
		x.begin.Sub(rec.CreateTime) >= max(failedAge, x.c.cfg.LeftoverAge)
}

// reconcilePresent notes data that the catalog does not have, or has otherwise.
func (x *comparison) reconcilePresent(
	ctx context.Context, i int, rec *snapshot.Record, g *repository.Group, data *repository.Object, e *effect,
) {
	v := x.views[i]
	loc := rec.Location(v.repo.Name())
	if !g.Manifest {
		// Otherwise it is the trace of a crash, or foreign: no caller was told that it is READY.
		if loc != nil && loc.Size > 0 {
			e.note(i, rec.Found(x.failedLocation(v, rec, data.Size, snapshot.ManifestMissing)))
		}
		return
	}
	m := x.usableManifest(ctx, i, rec, data, e)
	if m == nil {
		return
	}
	// The manifest was read now, and is read again only when it is written anew.
	if loc != nil && x.rewritten(v, rec, g, loc) {
		x.c.manifests.Put(v.repo.Name(), g.Name, g.ManifestTime, x.begin)
	}
	rec.Learn(m.Record)
	rec.Saw(v.repo.Name(), g.ManifestTime) // this alone is no reason to write the record
	switch {
	case loc == nil:
		rec.Found(x.compare(v, rec, m.Record, data))
		e.on[i].added = true
	case !x.reconcileSuperseded(ctx, i, rec, data, e):
		e.note(i, rec.Found(x.compare(v, rec, m.Record, data)))
	}
}

// usableManifest returns the manifest beside data; nil when there is none that describes the record's snapshot, which
// is noted then.
func (x *comparison) usableManifest(
	ctx context.Context, i int, rec *snapshot.Record, data *repository.Object, e *effect,
) *repository.Manifest {
	v := x.views[i]
	m, err := v.repo.ReadManifest(ctx, rec.Name)
	if err == nil && m.Removed.IsZero() && rec.StoredSHA256 != "" {
		err = v.repo.Older(m, rec) // one that was put back may unpin the snapshot, or take a label away
	}
	if err != nil {
		x.reconcileUnusable(ctx, i, rec, data, err, e)
		return nil
	}
	if !m.Removed.IsZero() {
		if x.resumeUnrecorded(ctx, v, m) && rec.Location(v.repo.Name()) != nil {
			rec.DropBackend(v.repo.Name())
			e.on[i].removed = true
		}
		return nil
	}
	if err := v.repo.ConfirmListed(ctx, m.Record, data); err != nil {
		x.fail(v, err)
		e.on[i].unchanged = true
		return nil
	}
	return m
}

// reconcileUnusable notes data beside a manifest that could not be read, or is not this snapshot's.
func (x *comparison) reconcileUnusable(
	ctx context.Context, i int, rec *snapshot.Record, data *repository.Object, err error, e *effect,
) {
	v := x.views[i]
	x.c.counted.Drop(v.repo.Name(), rec.Name) // retention counts the copy only when it has read its manifest again
	why := snapshot.ManifestDamaged
	switch {
	case errors.Is(err, repository.ErrManifestUnusable):
		x.failObject(v, err)
		x.warn(ctx, v, "manifest is not this snapshot's", rec.Name, err)
	case snapshot.IsNotFound(err): // it was removed since it was listed
	case snapshot.ReasonOf(err) == snapshot.ReasonManifestUntrusted:
		x.failObject(v, err)
		why = err.Error()
	default:
		x.failObject(v, err)
		return
	}
	if rec.Location(v.repo.Name()) != nil {
		e.note(i, rec.Found(x.failedLocation(v, rec, data.Size, why)))
	}
}

// compare returns the location of a record on a backend, as the manifest found there and the listing show it.
func (x *comparison) compare(v *view, rec, found *snapshot.Record, data *repository.Object) snapshot.Location {
	l := x.location(v, rec)
	if data != nil {
		l.Size = data.Size
	}
	l.State = snapshot.StateFailed
	switch {
	case data == nil:
		l.Error = "its data is missing"
	case found.StoredSHA256 != rec.StoredSHA256 || found.SHA256 != rec.SHA256:
		l.Error = snapshot.OtherSnapshot
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

// catchUp writes an outdated manifest anew: in this node's own directory after another replica has changed labels or
// pin, on a shared backend after a repair from such a directory. The record alone is no reason to, because the
// catalog is no witness. The manifest on a shared backend is one, unless it is a repair's copy of an older one.
// Without it the manifest here stays as it is until this replica is asked for the same update.
func (x *comparison) catchUp(ctx context.Context, v *view, rec *snapshot.Record) {
	if !rec.Outdated(v.repo.Name()) || x.validateOnly {
		return
	}
	m, err := v.repo.ReadManifest(ctx, rec.Name)
	if err == nil && m.Record.Generation >= rec.Generation {
		rec.SetOutdated(v.repo.Name(), false)
		return
	}
	for _, src := range x.c.repos {
		l := rec.Location(src.Name())
		if err != nil || local(src) || l == nil || l.State != snapshot.StateReady || rec.Outdated(src.Name()) {
			continue
		}
		doc, cerr := src.CheckManifest(ctx, rec)
		if cerr != nil {
			x.c.log.WarnContext(ctx, "manifest not brought up to date", "snapshot", rec.Name, "backend", v.repo.Name(),
				"from", src.Name(), "error", cerr)
			continue
		}
		if err = v.repo.PutManifest(ctx, rec.Name, doc); err == nil {
			rec.SetOutdated(v.repo.Name(), false)
			return
		}
	}
	if err != nil {
		x.failObject(v, err)
	}
}
