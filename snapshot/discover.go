package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
)

// discover makes a record of what backends hold and the catalog does not know. Backends that were chosen and do not hold it
// are in the record, too: a save that did not reach all of them must not look as if it had.
func (r *reconciliation) discover(ctx context.Context, it item, ch *change) error {
	var rec *Record
	var chosen []Location
	bad := map[int]error{}
	var others []candidate
	for i, g := range it.groups {
		if g == nil {
			continue
		}
		v := r.views[i]
		found, err := r.readManifest(ctx, v, it.name, g)
		if err != nil {
			r.fail(v, err)
			bad[i] = err
			continue
		}
		if found == nil {
			ch.listed[i] = false
			if o := r.adoptable(v, g); o != nil {
				others = append(others, candidate{i, o})
			} else {
				r.foreignGroup(ctx, v, g)
			}
			continue
		}
		if rec == nil {
			rec, chosen = found, found.Locations
			rec.Locations = nil
		}
		loc := r.newLocation(v, rec)
		r.judge(&loc, rec, found, g.data(r.key(rec.DataKey())))
		rec.Locations = append(rec.Locations, loc)
		ch.added[i] = true
	}
	if rec == nil && len(others) > 0 {
		return r.adopt(ctx, it, others, ch)
	}
	for _, o := range others {
		r.foreignGroup(ctx, r.views[o.view], it.groups[o.view])
	}
	if rec == nil {
		return nil
	}
	for i := range it.groups {
		if ReasonOf(bad[i]) == ReasonManifestUntrusted {
			r.addUntrusted(it, i, rec, bad[i], ch)
		}
	}
	r.addMissing(it, rec, chosen)
	setState(&rec.Snapshot)
	return r.commit(ctx, it, rec, ch, true)
}

// addUntrusted adds a location whose manifest is not to be believed. That the data is there is all that is known of it.
func (r *reconciliation) addUntrusted(it item, i int, rec *Record, err error, ch *change) {
	v := r.views[i]
	loc := r.newLocation(v, rec)
	loc.State, loc.Error = StateFailed, err.Error()
	if data := it.groups[i].data(r.key(rec.DataKey())); data != nil {
		loc.Size = data.Size
	}
	rec.Locations = append(rec.Locations, loc)
	rec.Failures = append(rec.Failures, failureOf(v.b.Name(), err))
	ch.added[i] = true
}

// addMissing adds the configured backends that were chosen and where the snapshot was not found.
func (r *reconciliation) addMissing(it item, rec *Record, chosen []Location) {
	for _, b := range r.cfg.Backends {
		named := slices.ContainsFunc(chosen, func(l Location) bool { return l.Backend == b.Name() })
		if !named || rec.Location(b.Name()) != nil {
			continue
		}
		why, size := fmt.Sprintf("backend %q was to hold it and does not", b.Name()), int64(0)
		if i := r.viewOf(b.Name()); i < 0 || !it.known[i] {
			why = fmt.Sprintf("backend %q was to hold it and could not be looked at", b.Name())
		} else if data := it.groups[i].data(r.key(rec.DataKey())); data != nil {
			why, size = "its manifest is missing", data.Size
		}
		rec.Locations = append(rec.Locations, Location{
			Backend: b.Name(), Kind: b.Kind(), URI: b.URI(r.key(rec.DataKey())),
			Size: size, State: StateFailed, Error: why, UpdateTime: r.begin.UTC(),
		})
		rec.Failures = append(rec.Failures, Failure{Backend: b.Name(), Reason: ReasonCopyMissing, Message: why})
	}
}

// readManifest returns what the manifest beside the data says, or nil when there is none that is of this snapshot.
func (r *reconciliation) readManifest(ctx context.Context, v *view, name string, g *group) (*Record, error) {
	if !g.manifest || len(g.objects) == 0 || !ValidName(name) {
		return nil, nil //nolint:nilnil // no manifest is what there is to say
	}
	doc, err := readSmall(ctx, v.b, r.key(ManifestKey(name)))
	if isNotFound(err) {
		return nil, nil //nolint:nilnil // removed since it was listed
	}
	if err != nil && !errors.Is(err, errTooLarge) {
		return nil, err
	}
	key := r.key(ManifestKey(name))
	if err := r.cfg.Trust.verify(doc); err != nil {
		return nil, untrusted(v.b, key, err)
	}
	var rec *Record
	if err == nil {
		rec, err = decodeManifest(bytes.TrimSpace(doc))
	}
	if err == nil && rec.Name != name {
		err = fmt.Errorf("the manifest is of %q", rec.Name)
	}
	if err == nil && rec.Cluster != r.cfg.Name {
		err = fmt.Errorf("the manifest is of cluster %q", rec.Cluster)
	}
	if err != nil {
		r.log.WarnContext(ctx, "manifest is not this snapshot's", "backend", v.b.Name(), "snapshot", name, "error", err)
		return nil, nil //nolint:nilnil // it is somebody else's file
	}
	return rec, nil
}
