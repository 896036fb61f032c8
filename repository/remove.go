package repository

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Removable returns why a copy must not or cannot be removed: the backend is another store, the objects under the keys
// are another snapshot's, they are locked, or the manifest says that the snapshot is pinned. The record alone is never
// reason enough: the catalog is no witness. A copy that is not there is removable, and so is one with a damaged
// manifest.
func (r *Repository) Removable(ctx context.Context, rec *snapshot.Record) error {
	_, err := r.BeginRemoval(ctx, rec)
	return err
}

// Removal is the removal of one copy that was found to be removable. From its mark on, an interrupted one can be
// resumed by any replica, with a catalog or without.
type Removal struct {
	r     *Repository
	rec   *snapshot.Record
	found *Manifest // as it was found, or as it was marked; nil when there is none that a mark could be put into
}

// BeginRemoval looks whether a copy is removable, and changes nothing.
func (r *Repository) BeginRemoval(ctx context.Context, rec *snapshot.Record) (*Removal, error) {
	if err := r.OpenVerified(ctx, false); err != nil {
		return nil, err
	}
	if err := r.unlocked(ctx, rec); err != nil && !snapshot.IsNotFound(err) {
		return nil, err
	}
	x := &Removal{r: r, rec: rec}
	if rec.Trigger == snapshot.TriggerAdopted {
		return x, r.sameFile(ctx, rec)
	}
	m, trusted, err := r.claim(ctx, rec.Name)
	switch {
	case err != nil:
		return nil, err
	case m == nil && rec.MayBeForeign():
		return x, r.notForeign(ctx, rec)
	case m == nil: // a manifest that says nothing is damaged, under the name of a snapshot of this cluster
		return x, nil
	}
	if trusted {
		x.found = m // one that is not trusted must not get a signature of ours
	}
	found := m.Record
	if r.belongs(found, rec.Name) == nil && found.StoredSHA256 == rec.StoredSHA256 {
		return x, r.agrees(found, rec)
	}
	return nil, snapshot.ReasonConflict.
		New("backend %q: the manifest under %s is that of snapshot %q of cluster %q (sha256 %s)",
			r.info.Name, snapshot.ManifestKey(rec.Name), found.Name, found.Cluster, found.StoredSHA256).
		On(r.info.Name).Final().
		Advise("it is not this snapshot and was left alone; reconcile, and look at the backend")
}

// Mark writes the mark of the removal. A removal from several backends marks all of them before it deletes anything,
// so that an interruption does not leave the snapshot on some of them. A damaged manifest gets no mark: it describes
// nothing that the mark could take back.
func (x *Removal) Mark(ctx context.Context) error {
	if x.found == nil || !x.found.Removed.IsZero() {
		return nil
	}
	if err := x.unchanged(ctx); err != nil {
		return err
	}
	r, marked := x.r, *x.found
	marked.Record, marked.Removed = x.found.Record.Copy(), x.r.now().UTC()
	marked.Record.Generation++
	var err error
	if marked.Doc, err = encodeDocument(marked.Record, marked.chosen, marked.Removed, r.signer); err != nil {
		return err
	}
	if err := r.PutManifest(ctx, x.rec.Name, marked.Doc); err != nil {
		return r.unmarkable(ctx, x.rec.Name, err)
	}
	x.found = &marked
	return nil
}

// unchanged returns an error when the copy is not as it was found. A replica that was paused before this step may
// have been taken for dead: another one has taken the removal back, and a caller has pinned the snapshot since.
func (x *Removal) unchanged(ctx context.Context) error {
	switch {
	case x.rec.Trigger == snapshot.TriggerAdopted:
		return x.r.sameFile(ctx, x.rec)
	case x.found == nil:
		return x.r.Removable(ctx, x.rec)
	}
	doc, err := x.r.ReadDocument(ctx, x.r.manifestKey(x.rec.Name))
	if snapshot.IsNotFound(err) {
		return nil // another replica has finished this removal
	}
	if err == nil && !bytes.Equal(doc, x.found.Doc) {
		err = snapshot.ReasonConflict.New("backend %q: the manifest of %s", x.r.info.Name, x.rec.Name).
			On(x.r.info.Name).Because(snapshot.ErrConflict).Advise("look at the snapshot again, and decide anew")
	}
	return err
}

// unmarkable returns why a manifest could not be replaced. A bucket with object lock and without versions refuses that.
func (r *Repository) unmarkable(ctx context.Context, name string, err error) error {
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied {
		return err
	}
	o, serr := r.backend.Stat(ctx, r.manifestKey(name))
	if serr != nil || !o.LockedUntil.After(r.now()) {
		return err
	}
	return snapshot.ReasonObjectLocked.
		New("backend %q: the manifest of %s is locked until %s, and cannot be marked as removed",
			r.info.Name, name, o.LockedUntil.UTC().Format(time.RFC3339)).On(r.info.Name).Because(err).
		Advise("nothing of the copy was removed, and it can be after that; " +
			"the bucket locks objects without keeping versions of them: " +
			"turn versioning on, or have the lock end before retention removes a snapshot")
}

// Finish deletes the data and then the manifest. Other programs' files beside an adopted one stay.
func (x *Removal) Finish(ctx context.Context) error {
	if err := x.Mark(ctx); err != nil {
		return err
	}
	// The other backends were marked in between, which may have taken minutes.
	if err := x.unchanged(ctx); err != nil {
		return err
	}
	if x.rec.Trigger != snapshot.TriggerAdopted {
		return x.r.removeObjects(ctx, x.rec)
	}
	if err := x.r.backend.Delete(ctx, x.r.dataKey(x.rec)); err != nil {
		return err
	}
	// The note goes last. Without it, an interrupted removal of this file would not be allowed to go on.
	return x.r.backend.Delete(ctx, x.r.unpinNoteKey(x.rec))
}

// Remove removes a copy, if it is removable.
func (r *Repository) Remove(ctx context.Context, rec *snapshot.Record) error {
	x, err := r.BeginRemoval(ctx, rec)
	if err != nil {
		return err
	}
	return x.Finish(ctx)
}

// notForeign returns an error when there is data that may be another program's, with no manifest to say otherwise.
func (r *Repository) notForeign(ctx context.Context, rec *snapshot.Record) error {
	found, err := r.HasManifest(ctx, rec.Name)
	if found || err != nil {
		return err
	}
	if _, err := r.backend.Stat(ctx, r.dataKey(rec)); err != nil {
		if snapshot.IsNotFound(err) {
			return nil
		}
		return err
	}
	return snapshot.ReasonConflict.
		New("backend %q: %s has no manifest, and may be another program's", r.info.Name, rec.DataKey()).On(r.info.Name).
		Final().Advise(snapshot.ChangedRecord)
}

// agrees returns why the facts by which a copy was chosen for removal are not those of its manifest. The manifest is
// the older witness, signed where there are keys. These are the facts that retention decides by: the pin, the trigger
// for its classes, the time for its periods, and the revision for the newest of each etcd cluster.
func (r *Repository) agrees(found, rec *snapshot.Record) error {
	switch {
	case found.Pinned:
		return snapshot.ReasonPinned.New("backend %q: the manifest of %s says that it is pinned", r.info.Name, rec.Name).
			On(r.info.Name).Advise("unpin it first: snapshotd update %s --unpin", rec.Name)
	case found.Trigger != rec.Trigger || !found.CreateTime.Equal(rec.CreateTime) || found.Revision != rec.Revision ||
		found.EtcdClusterID != rec.EtcdClusterID:
		return snapshot.ReasonConflict.
			New("backend %q: the manifest of %s says %s, and its record %s", r.info.Name, rec.Name, chosenBy(found),
				chosenBy(rec)).On(r.info.Name).Final().Advise(snapshot.ChangedRecord)
	}
	return nil
}

// chosenBy returns the facts by which a copy is chosen for removal.
func chosenBy(rec *snapshot.Record) string {
	return fmt.Sprintf("%s, %s, revision %d of etcd cluster %q", rec.Trigger, rec.CreateTime.Format(time.RFC3339),
		rec.Revision, rec.EtcdClusterID)
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

// sameFile returns an error when an adopted snapshot's file is not the one that was adopted, as far as its size
// shows, or was not unpinned. Other programs may replace their files at any time, and there is no manifest to
// compare.
func (r *Repository) sameFile(ctx context.Context, rec *snapshot.Record) error {
	if !snapshot.FileOf(rec.Name, rec.File) {
		return r.notItsFile(rec)
	}
	// With a manifest beside it, the file is the data of a snapshot of ours.
	if m, _, err := r.claim(ctx, rec.Name); err != nil || m != nil {
		return cmp.Or(err, r.notItsFile(rec))
	}
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
	return r.unpinned(ctx, rec)
}

// notItsFile is the error of an adopted snapshot whose record names another file. A record that was changed in etcd
// must not lead to another snapshot's object.
func (r *Repository) notItsFile(rec *snapshot.Record) error {
	return snapshot.ReasonConflict.
		New("backend %q: %q is not a file of the adopted snapshot %s", r.info.Name, rec.File, rec.Name).On(r.info.Name).
		Final().Advise(snapshot.ChangedRecord)
}

// removeObjects deletes the data and then the manifest with its mark.
func (r *Repository) removeObjects(ctx context.Context, rec *snapshot.Record) error {
	if err := r.backend.Delete(ctx, r.dataKey(rec)); err != nil {
		return err
	}
	fault.Point("data-deleted")
	return r.backend.Delete(ctx, r.manifestKey(rec.Name))
}

// ResumeRemoval goes on with a removal whose mark is in the manifest.
func (r *Repository) ResumeRemoval(ctx context.Context, m *Manifest) error {
	if m.Removed.IsZero() {
		return snapshot.ReasonInternal.New("resume the removal of %s: its manifest has no mark", m.Record.Name).
			On(r.info.Name)
	}
	// Neither pin nor facts are compared again: they were before the mark was written, and the catalog may have
	// forgotten them.
	if err := r.unlocked(ctx, m.Record); err != nil && !snapshot.IsNotFound(err) {
		return err
	}
	return r.removeObjects(ctx, m.Record)
}
