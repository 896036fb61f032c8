package repository

import (
	"context"
	"time"

	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Removable returns why a copy must not or cannot be removed: the backend is another store, the objects under the keys
// are another snapshot's, or they are locked. A copy that is not there is removable, and so is one with a damaged
// manifest.
func (r *Repository) Removable(ctx context.Context, rec *snapshot.Record) error {
	if err := r.Verified(ctx, false); err != nil {
		return err
	}
	if err := r.unlocked(ctx, rec); err != nil && !snapshot.IsNotFound(err) {
		return err
	}
	if rec.Trigger == snapshot.TriggerAdopted {
		return r.sameFile(ctx, rec)
	}
	m, _, err := r.claim(ctx, rec.Name)
	if err != nil || m == nil { // a manifest that says nothing is damaged, under the name of a snapshot of this cluster
		return err
	}
	found := m.Record
	if r.belongs(found, rec.Name) == nil && found.StoredSHA256 == rec.StoredSHA256 {
		return nil
	}
	return snapshot.ReasonConflict.
		New("backend %q: the manifest under %s is that of snapshot %q of cluster %q (sha256 %s)",
			r.info.Name, snapshot.ManifestKey(rec.Name), found.Name, found.Cluster, found.StoredSHA256).
		On(r.info.Name).Final().
		Advise("it is not this snapshot and was left alone; reconcile, and look at the backend")
}

// unlocked returns an error with ReasonObjectLocked when the copy may not be removed yet. This is known before anything
// is removed: otherwise the data would stay without its manifest.
func (r *Repository) unlocked(ctx context.Context, rec *snapshot.Record) error {
	o, err := r.backend.Stat(ctx, r.dataKey(rec))
	if err != nil {
		return err
	}
	if until := o.LockedUntil; until.After(r.now()) {
		return snapshot.ReasonObjectLocked.
			New("backend %q: %s is locked until %s", r.info.Name, rec.Name, until.UTC().Format(time.RFC3339)).On(r.info.Name).
			Advise("the bucket's object lock keeps it; it can be removed after that")
	}
	return nil
}

// sameFile returns an error when an adopted snapshot's file is not the one that was adopted, as far as its size shows.
// Other programs may replace their files at any time, and there is no manifest to compare.
func (r *Repository) sameFile(ctx context.Context, rec *snapshot.Record) error {
	o, err := r.backend.Stat(ctx, r.key(rec.File))
	if snapshot.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if l := rec.Location(r.info.Name); l != nil && l.Size != o.Size {
		return snapshot.ReasonConflict.
			New("backend %q: %s has %d bytes and was adopted with %d", r.info.Name, rec.File, o.Size, l.Size).
			On(r.info.Name).Final().
			Advise("it was replaced, and was left alone; reconcile, and look again")
	}
	return nil
}

// Remove removes the manifest and then the data, if the copy is removable. In this order an interruption leaves data
// without a manifest, which is no snapshot, and never a manifest without data.
func (r *Repository) Remove(ctx context.Context, rec *snapshot.Record) error {
	if err := r.Removable(ctx, rec); err != nil {
		return err
	}
	if rec.Trigger != snapshot.TriggerAdopted { // a .json beside an adopted file is not this program's
		if err := r.backend.Delete(ctx, r.manifestKey(rec.Name)); err != nil {
			return err
		}
	}
	// A crash here leaves data without a manifest: reconcile sweeps it, and no caller takes it for a snapshot.
	fault.Point("manifest-deleted")
	return r.backend.Delete(ctx, r.dataKey(rec))
}
