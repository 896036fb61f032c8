package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// badManifest is the error of a location whose manifest is not its snapshot's.
const badManifest = "its manifest is damaged or another snapshot's"

// settle makes the record of one name tell the truth about the backends that are known. Its error ends the whole
// reconciliation; what one backend has to say is noted in its view.
func (r *reconciliation) settle(ctx context.Context, it item) error {
	ch := newChange(len(r.views))
	for i, g := range it.groups {
		if g != nil && g.manifest && len(g.objects) > 0 {
			ch.listed[i] = true
		}
	}
	if it.rec == nil {
		return r.discover(ctx, it, ch)
	}
	rec := it.rec.Clone()
	if deleting(rec) {
		return r.settleDeleting(ctx, it, rec, ch)
	}
	switch rec.State {
	case StateSaving:
		settled, err := r.settleSaving(ctx, it, rec, ch)
		if err != nil || !settled {
			return err
		}
	default:
		r.settleLocations(ctx, it, rec, ch)
	}
	left, err := r.sweepOrphans(ctx, it, rec)
	if errors.Is(err, ErrConflict) {
		return r.commit(ctx, it, rec, newChange(len(r.views)), false) // somebody is at work; the next run looks again
	}
	if err != nil {
		return err
	}
	if !left && r.allSeen(it, rec) && r.forgettable(rec) {
		return r.commit(ctx, it, nil, ch, true)
	}
	rec.forgetRepairs()
	before := it.rec.Clone()
	if slices.Equal(before.Locations, rec.Locations) && before.State == rec.State {
		return r.commit(ctx, it, rec, ch, false)
	}
	return r.commit(ctx, it, rec, ch, true)
}

// settleSaving decides about a save whose owner is gone. It returns false when the owner is at work, or when a backend
// that it was writing to cannot be seen.
func (r *reconciliation) settleSaving(ctx context.Context, it item, rec *Record, ch *change) (bool, error) {
	owner, err := r.cfg.Catalog.LockOwner(ctx)
	if err != nil {
		return false, err
	}
	busy := owner == rec.Owner || r.isSaving(rec.Name)
	for _, l := range rec.Locations {
		if slices.Contains(r.BackendNames(), l.Backend) {
			i := r.viewOf(l.Backend)
			busy = busy || i < 0 || !it.known[i]
		}
	}
	if busy {
		r.mu.Lock()
		r.busy[rec.Name] = true
		r.mu.Unlock()
		return false, r.commit(ctx, it, rec, ch, false)
	}
	r.settleInterrupted(ctx, it, rec, ch)
	return true, nil
}

// settleInterrupted makes the record of a save that nobody goes on with say what the backends hold of it.
func (r *reconciliation) settleInterrupted(ctx context.Context, it item, rec *Record, ch *change) {
	interrupted := fmt.Sprintf("the replica that was saving it (%s) died or lost its lease", rec.Owner)
	for i := range rec.Locations {
		rec.Locations[i].State, rec.Locations[i].Error = StateFailed, interrupted
	}
	r.settleLocations(ctx, it, rec, ch)
	for i := range ch.unchanged {
		ch.updated[i] = ch.updated[i] || ch.unchanged[i]
		ch.unchanged[i] = false
	}
	rec.Owner = ""
	if rec.State != StateReady {
		rec.Failures = []Failure{{Reason: ReasonInterrupted, Message: interrupted}}
	}
}

// settleLocations compares a record's locations with what the backends hold.
func (r *reconciliation) settleLocations(ctx context.Context, it item, rec *Record, ch *change) {
	for i, v := range r.views {
		if !it.known[i] {
			continue
		}
		loc, g := rec.Location(v.b.Name()), it.groups[i]
		data := g.data(r.key(rec.DataKey()))
		switch {
		case data == nil && loc == nil:
			if g != nil {
				r.foreignGroup(ctx, v, g)
			}
		case data == nil:
			r.settleAbsent(ctx, i, rec, loc, g != nil && g.manifest && rec.Trigger != TriggerAdopted, ch)
		case rec.Trigger == TriggerAdopted:
			r.settleAdopted(ctx, i, rec, loc, data, ch)
		case loc != nil && loc.State == StateReady && g.manifest && data.Size == loc.Size:
			ch.unchanged[i] = true
		default:
			r.settlePresent(ctx, i, rec, g, data, ch)
		}
	}
	r.dropUnconfigured(rec, ch)
	setState(&rec.Snapshot)
}

// dropUnconfigured drops locations on backends that are configured no more: nobody can say what became of them. When no
// backend that was just seen holds the snapshot, they stay, for they say where it was last. A backend that comes back has its
// locations taken in again.
func (r *reconciliation) dropUnconfigured(rec *Record, ch *change) {
	seen := func(l Location) bool {
		i := r.viewOf(l.Backend)
		return i >= 0 && ch.unchanged[i] && l.State == StateReady
	}
	if !slices.ContainsFunc(rec.Locations, seen) {
		return
	}
	rec.Locations = slices.DeleteFunc(rec.Locations, func(l Location) bool { return r.backend(l.Backend) == nil && l.State != StateSaving })
	rec.Failures = slices.DeleteFunc(rec.Failures, func(f Failure) bool { return f.Backend != "" && r.backend(f.Backend) == nil })
}

// settleAbsent drops a location whose object is gone, which the backend must confirm. A location that never held
// anything stays: it says that an upload failed. One whose manifest is still there was not removed on purpose, for then the
// manifest goes first: it stays, too, FAILED, and is repaired.
func (r *reconciliation) settleAbsent(ctx context.Context, i int, rec *Record, loc *Location, manifest bool, ch *change) {
	if loc.State == StateDeleting {
		r.mark(i, loc, StateFailed, 0, loc.Error, ch) // swept, by a run that ended before it could say so
		return
	}
	if loc.Size == 0 {
		ch.unchanged[i] = true
		return
	}
	v := r.views[i]
	gone, err := r.confirmGone(ctx, v, rec)
	if err != nil {
		r.fail(v, err)
		return
	}
	if !gone {
		ch.unchanged[i] = true
		return
	}
	if manifest {
		r.mark(i, loc, StateFailed, 0, "its data is missing", ch)
		return
	}
	rec.Locations = slices.DeleteFunc(rec.Locations, func(l Location) bool { return l.Backend == v.b.Name() })
	ch.removed[i] = true
}

// confirmGone asks for the object itself and then, because an unmounted directory has no objects either, whether the
// store is still the one that it was.
func (r *reconciliation) confirmGone(ctx context.Context, v *view, rec *Record) (bool, error) {
	_, err := v.b.Stat(ctx, r.key(rec.DataKey()))
	switch {
	case err == nil:
		return false, nil
	case !isNotFound(err):
		return false, err
	}
	id, err := readMarker(ctx, v.b)
	switch {
	case isNotFound(err):
		return false, wrongStore(v.b, fmt.Sprintf("its marker %s disappeared while it was being listed", MarkerKey))
	case err != nil:
		return false, err
	case v.store != "" && id != v.store:
		return false, wrongStore(v.b, fmt.Sprintf("its marker %s became that of store %s while store %s was being listed", MarkerKey, id, v.store))
	}
	return true, nil
}

// settlePresent notes data that the catalog does not have, or has otherwise.
func (r *reconciliation) settlePresent(ctx context.Context, i int, rec *Record, g *group, data *Object, ch *change) {
	v := r.views[i]
	loc := rec.Location(v.b.Name())
	if !g.manifest {
		if loc == nil || loc.Size == 0 {
			return // the trace of a crash, or foreign: nobody was told that it is READY
		}
		r.mark(i, loc, StateFailed, data.Size, "its manifest is missing", ch)
		return
	}
	found, err := r.readManifest(ctx, v, rec.Name, g)
	if err != nil {
		r.fail(v, err)
		if loc != nil && ReasonOf(err) == ReasonManifestUntrusted {
			r.mark(i, loc, StateFailed, data.Size, err.Error(), ch)
		}
		return
	}
	if found == nil {
		if loc != nil {
			r.mark(i, loc, StateFailed, data.Size, badManifest, ch)
		}
		return
	}
	if rec.StoredSHA256 == "" {
		describe(rec, found)
	}
	if loc != nil && r.settleSuperseded(ctx, i, rec, loc, data, ch) {
		return
	}
	added := loc == nil
	if added {
		rec.Locations = append(rec.Locations, r.newLocation(v, rec))
		loc = &rec.Locations[len(rec.Locations)-1]
	}
	was := *loc
	r.judge(loc, rec, found, data)
	if added {
		ch.added[i] = true
		return
	}
	r.mark(i, &was, loc.State, loc.Size, loc.Error, ch)
}

// mark changes a location, if that changes anything.
func (r *reconciliation) mark(i int, loc *Location, state State, size int64, why string, ch *change) {
	if loc.State == state && loc.Size == size && loc.Error == why {
		ch.unchanged[i] = true
		return
	}
	loc.State, loc.Size, loc.Error, loc.UpdateTime = state, size, why, r.begin.UTC()
	ch.updated[i] = true
}

// judge says in a location whether what it holds is the snapshot of the record.
func (r *reconciliation) judge(loc *Location, rec, found *Record, data *Object) {
	state, size, why := StateReady, int64(0), ""
	if data != nil {
		size = data.Size
	}
	switch {
	case data == nil:
		state, why = StateFailed, "its data is missing"
	case found.StoredSHA256 != rec.StoredSHA256 || found.SHA256 != rec.SHA256:
		state, why = StateFailed, "it holds another snapshot under this name"
	case size != rec.StoredSize:
		state, why = StateFailed, fmt.Sprintf("it has %d bytes instead of %d", size, rec.StoredSize)
	case slices.Contains(rec.Damaged, loc.Backend):
		state, why = StateFailed, loc.Error // the listing shows nothing of it; repair has read the bytes
	}
	if loc.State != state || loc.Size != size || loc.Error != why {
		loc.State, loc.Size, loc.Error, loc.UpdateTime = state, size, why, r.begin.UTC()
	}
}

// describe fills a record with what only the manifest knows, after a save whose owner died.
func describe(rec, found *Record) {
	was := *rec
	*rec = *found
	rec.Locations, rec.Version, rec.Etag, rec.SupersededBy = was.Locations, was.Version, was.Etag, was.SupersededBy
}

func (r *reconciliation) newLocation(v *view, rec *Record) Location {
	return Location{
		Backend: v.b.Name(), Kind: v.b.Kind(), URI: v.b.URI(r.key(rec.DataKey())), UpdateTime: r.begin.UTC(),
	}
}

func (r *reconciliation) viewOf(backend string) int {
	return slices.IndexFunc(r.views, func(v *view) bool { return v.b.Name() == backend })
}

// allSeen reports whether every configured backend that the record names is known: what cannot be seen is not forgotten.
func (r *reconciliation) allSeen(it item, rec *Record) bool {
	for _, l := range rec.Locations {
		i := r.viewOf(l.Backend)
		if slices.Contains(r.BackendNames(), l.Backend) && (i < 0 || !it.known[i]) {
			return false
		}
	}
	return true
}

// forgettable reports whether a record is of no use any more: no location holds anything, and it is old enough. What a
// failed save has left behind keeps its record until it is swept, and so does what a replica keeps.
func (r *reconciliation) forgettable(rec *Record) bool {
	if rec.KeptOn != "" {
		return false
	}
	for _, l := range rec.Locations {
		if l.State == StateReady || l.State == StateSaving || l.Size > 0 {
			return false
		}
	}
	age := r.begin.Sub(rec.CreateTime)
	if len(rec.Failures) > 0 && len(rec.Locations) > 0 {
		return age >= max(r.cfg.FailedAge, r.cfg.LeftoverAge)
	}
	return age >= r.cfg.YoungAge
}
