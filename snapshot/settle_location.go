package snapshot

import (
	"context"
	"fmt"
	"slices"
)

// badManifest is the error of a location whose manifest is not its snapshot's.
const badManifest = "its manifest is damaged or another snapshot's"

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
			r.settleAbsent(ctx, i, rec, loc, ch)
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
// anything stays: it says that an upload failed.
func (r *reconciliation) settleAbsent(ctx context.Context, i int, rec *Record, loc *Location, ch *change) {
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
	if loc == nil {
		added := r.newLocation(v, rec)
		r.judge(&added, rec, found, data)
		rec.Locations = append(rec.Locations, added)
		ch.added[i] = true
		return
	}
	if r.settleSuperseded(ctx, i, rec, loc, data, ch) {
		return
	}
	ch.note(i, r.judge(loc, rec, found, data))
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

// mark changes the location on a view's backend.
func (r *reconciliation) mark(i int, loc *Location, state State, size int64, why string, ch *change) {
	ch.note(i, r.set(loc, state, size, why))
}

// set changes a location, and reports whether that changed anything.
func (r *reconciliation) set(loc *Location, state State, size int64, why string) (changed bool) {
	if loc.State == state && loc.Size == size && loc.Error == why {
		return false
	}
	loc.State, loc.Size, loc.Error, loc.UpdateTime = state, size, why, r.begin.UTC()
	return true
}

// judge says in a location whether what it holds is the snapshot of the record, and reports whether that changed anything.
func (r *reconciliation) judge(loc *Location, rec, found *Record, data *Object) (changed bool) {
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
	return r.set(loc, state, size, why)
}
