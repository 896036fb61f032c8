package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// discovery is the making of a record from files on backends that the catalog does not know.
type discovery struct {
	rec    *snapshot.Record
	chosen []string      // backends that were chosen for the save, by the first manifest
	bad    map[int]error // by view: why its manifest cannot be used
	others []candidate   // objects that may be another program's snapshot
}

// candidate is an object that another program may have put there as a snapshot, on the view of this number.
type candidate struct {
	view int
	o    *repository.Object
}

// discover makes a record of a snapshot that backends hold and the catalog does not know. Backends that were chosen
// and do not hold it are in the record, too: a save that did not reach all of them must not look as if it had.
func (r *reconciliation) discover(ctx context.Context, it item, e *effect) error {
	d := discovery{bad: map[int]error{}}
	for i, g := range it.groups {
		if g != nil {
			r.discoverOn(ctx, i, g, &d, e)
		}
	}
	// Only where no backend has a manifest of ours under this name can it be another program's snapshot.
	if d.rec == nil && len(d.others) > 0 {
		return r.adopt(ctx, it, d.others, e)
	}
	for _, o := range d.others {
		r.cmp.countForeignGroup(ctx, r.views[o.view], it.groups[o.view])
	}
	if d.rec == nil {
		return nil
	}
	// A second copy whose manifest is damaged belongs to the snapshot that the good manifest describes. Alone it
	// would be an error of its backend and nothing else, because nothing could be said of it.
	for i := range it.groups {
		if snapshot.IsDamage(d.bad[i]) {
			r.addUnusable(it, i, d.rec, d.bad[i], e)
		}
	}
	r.discoverLate(ctx, it, &d, e)
	r.addMissing(it, d.rec, d.chosen)
	d.rec.FoundAgain(r.liveEtcd, r.begin)
	return r.commit(ctx, it, d.rec, e, true)
}

// discoverOn takes in the files of one name on one backend.
func (r *reconciliation) discoverOn(ctx context.Context, i int, g *repository.Group, d *discovery, e *effect) {
	v := r.views[i]
	m, err := r.manifestOf(ctx, v, g)
	if err != nil {
		r.cmp.failObject(v, err)
		d.bad[i] = err
		return
	}
	if m == nil {
		e.on[i].listed = false
		if o := r.cmp.adoptable(v, g); o != nil {
			d.others = append(d.others, candidate{i, o})
		} else {
			r.cmp.countForeignGroup(ctx, v, g)
		}
		return
	}
	if !m.Removed.IsZero() {
		// The removal began under a record that the catalog does not have any more. It goes on from the mark.
		e.on[i].listed = false
		r.cmp.resumeUnrecorded(ctx, v, m)
		return
	}
	if d.rec == nil {
		d.rec, d.chosen = m.Record.Copy(), m.Chosen()
	}
	d.rec.Learn(m.Record) // an update may have reached this backend alone
	d.rec.Found(r.cmp.compare(v, d.rec, m.Record, v.repo.DataOf(g, d.rec)))
	d.rec.Saw(v.repo.Name(), g.ManifestTime)
	e.on[i].added = true
}

// manifestOf returns the manifest beside data, or nil when there is none. A manifest that cannot be used, beside data
// as saves store it, is an error of the backend: the data may be a snapshot that a caller was told is READY. Beside
// other data it is another program's file.
func (r *reconciliation) manifestOf(ctx context.Context, v *view, g *repository.Group) (*repository.Manifest, error) {
	if !g.Manifest || !snapshot.ValidName(g.Name) || len(g.Objects) == 0 && !snapshot.NamedLikeSaves(g.Name) {
		return nil, nil //nolint:nilnil // there is no manifest of a snapshot
	}
	m, err := v.repo.ReadManifest(ctx, g.Name)
	switch {
	case snapshot.IsNotFound(err):
		return nil, nil //nolint:nilnil // it was removed since it was listed
	case errors.Is(err, repository.ErrManifestUnusable) && !v.repo.LooksSaved(g):
		r.cmp.warn(ctx, v, "manifest is not this snapshot's", g.Name, err)
		return nil, nil //nolint:nilnil // it is another program's file
	case len(g.Objects) == 0 && (err != nil || m.Removed.IsZero()):
		return nil, nil //nolint:nilerr,nilnil // it describes nothing, unless a removal has left it
	case err != nil:
		return nil, err
	}
	return m, nil
}

// addUnusable adds a location whose manifest cannot be used. All that is known of it is that the data is there.
// Repair replaces both from the good copy.
func (r *reconciliation) addUnusable(it item, i int, rec *snapshot.Record, err error, e *effect) {
	v := r.views[i]
	var size int64
	if data := v.repo.DataOf(it.groups[i], rec); data != nil {
		size = data.Size
	}
	rec.Missed(r.cmp.failedLocation(v, rec, size, err.Error()), snapshot.ReasonOf(err))
	e.on[i].added = true
}

// discoverLate takes in the copies that were written after their backend was listed: a save that could not write the
// catalog has told its caller that they are there.
func (r *reconciliation) discoverLate(ctx context.Context, it item, d *discovery, e *effect) {
	for i, v := range r.views {
		if !it.known[i] || it.groups[i] != nil || !slices.Contains(d.chosen, v.repo.Name()) {
			continue
		}
		if g, err := v.repo.ListOne(ctx, d.rec); err != nil {
			r.cmp.failObject(v, err)
		} else if g.Manifest {
			r.discoverOn(ctx, i, g, d, e)
		}
	}
}

// addMissing adds the configured backends that were chosen and where the snapshot was not found. It is not known any
// more whether their upload had failed or the copy was removed by hand, so repair makes it: a copy too many is no loss.
func (r *reconciliation) addMissing(it item, rec *snapshot.Record, chosen []string) {
	for _, repo := range r.c.repos {
		if !slices.Contains(chosen, repo.Name()) || rec.Location(repo.Name()) != nil {
			continue
		}
		l := repo.Location(rec, r.begin)
		l.Error = fmt.Sprintf("backend %q was to hold it and does not", repo.Name())
		if i := r.cmp.indexOf(repo.Name()); i < 0 || !it.known[i] {
			l.Error = fmt.Sprintf("backend %q was to hold it and could not be looked at", repo.Name())
		} else if data := repo.DataOf(it.groups[i], rec); data != nil {
			l.Error, l.Size = snapshot.ManifestMissing, data.Size
		}
		rec.Missed(l, snapshot.ReasonCopyMissing)
	}
}
