package repository

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Removable returns why a copy must not or cannot be removed: the backend is another store, the objects under the keys
// are another snapshot's, they are locked, or the manifest says that the snapshot is pinned. The record alone is never
// reason enough, because anybody who can write to etcd can change it. A copy that is not there is removable, and so is
// one with a damaged manifest.
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
	switch {
	case err != nil:
		return err
	case m == nil && rec.MayBeForeign():
		return r.notForeign(ctx, rec)
	case m == nil: // a manifest that says nothing is damaged, under the name of a snapshot of this cluster
		return nil
	}
	found := m.Record
	if r.belongs(found, rec.Name) == nil && found.StoredSHA256 == rec.StoredSHA256 {
		return r.agrees(found, rec)
	}
	return snapshot.ReasonConflict.
		New("backend %q: the manifest under %s is that of snapshot %q of cluster %q (sha256 %s)",
			r.info.Name, snapshot.ManifestKey(rec.Name), found.Name, found.Cluster, found.StoredSHA256).
		On(r.info.Name).Final().
		Advise("it is not this snapshot and was left alone; reconcile, and look at the backend")
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
		New("backend %q: %s has no manifest, and may be another program's", r.info.Name, rec.DataKey()).On(r.info.Name).Final().
		Advise("%s", changedRecord)
}

// agrees returns why the facts by which a copy was chosen for removal are not those of its manifest. The manifest is the
// older witness, signed where there are keys.
func (r *Repository) agrees(found, rec *snapshot.Record) error {
	switch {
	case found.Pinned:
		return snapshot.ReasonPinned.New("backend %q: the manifest of %s says that it is pinned", r.info.Name, rec.Name).
			On(r.info.Name).Advise("unpin it first: snapshotd update %s --unpin", rec.Name)
	case found.Trigger != rec.Trigger || !found.CreateTime.Equal(rec.CreateTime) || found.Revision != rec.Revision:
		return snapshot.ReasonConflict.
			New("backend %q: the manifest of %s says %s, %s, revision %d, and its record %s, %s, revision %d", r.info.Name, rec.Name,
				found.Trigger, found.CreateTime.Format(time.RFC3339), found.Revision,
				rec.Trigger, rec.CreateTime.Format(time.RFC3339), rec.Revision).On(r.info.Name).Final().
			Advise("%s", changedRecord)
	}
	return nil
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
	if !foreignFile(rec) {
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
	return nil
}

// foreignFile reports whether the file of an adopted snapshot is one that its name allows. A record that was changed in
// etcd must not lead to another snapshot's object.
func foreignFile(rec *snapshot.Record) bool {
	switch strings.TrimPrefix(rec.File, rec.Name) {
	case "", snapshot.ZipSuffix, snapshot.DataSuffix:
		return strings.HasPrefix(rec.File, rec.Name) && snapshot.ValidName(rec.Name)
	}
	return false
}

func (r *Repository) notItsFile(rec *snapshot.Record) error {
	return snapshot.ReasonConflict.
		New("backend %q: %q is not a file of the adopted snapshot %s", r.info.Name, rec.File, rec.Name).On(r.info.Name).Final().
		Advise("%s", changedRecord)
}

// changedRecord is the way out of a record that contradicts its backend.
const changedRecord = "the record was changed by something else; delete its key in etcd (etcdctl del), and reconcile makes it anew"

// Remove removes a copy, if it is removable: its manifest is marked, then the data is deleted, then the manifest. From the
// mark on, an interrupted removal can be resumed by any replica, with a catalog or without. What another program wrote
// beside an adopted file stays.
func (r *Repository) Remove(ctx context.Context, rec *snapshot.Record) error {
	if err := r.Removable(ctx, rec); err != nil {
		return err
	}
	if rec.Trigger == snapshot.TriggerAdopted {
		return r.backend.Delete(ctx, r.dataKey(rec))
	}
	if err := r.markRemoved(ctx, rec.Name); err != nil {
		return err
	}
	return r.removeObjects(ctx, rec)
}

// MarkRemoved writes the mark of a removal, if the copy is removable. A removal from several backends marks all of them
// before it deletes anything, so that an interruption does not leave the snapshot on some of them.
func (r *Repository) MarkRemoved(ctx context.Context, rec *snapshot.Record) error {
	if err := r.Removable(ctx, rec); err != nil || rec.Trigger == snapshot.TriggerAdopted {
		return err
	}
	return r.markRemoved(ctx, rec.Name)
}

// removeObjects deletes the data and then the manifest with its mark.
func (r *Repository) removeObjects(ctx context.Context, rec *snapshot.Record) error {
	if err := r.backend.Delete(ctx, r.dataKey(rec)); err != nil {
		return err
	}
	fault.Point("data-deleted")
	return r.backend.Delete(ctx, r.manifestKey(rec.Name))
}

// markRemoved writes the mark into a manifest that can be decoded and is trusted. A damaged manifest describes nothing that a
// mark could take back, and one that is not trusted must not get a signature of ours.
func (r *Repository) markRemoved(ctx context.Context, name string) error {
	m, trusted, err := r.claim(ctx, name)
	if err != nil || m == nil || !trusted || !m.Removed.IsZero() {
		return err
	}
	marked := m.Record.Copy()
	marked.Generation++
	doc, err := encodeDocument(marked, m.chosen, r.now().UTC(), r.signer)
	if err != nil {
		return err
	}
	return r.PutManifest(ctx, name, doc)
}

// ResumeRemoval goes on with a removal whose mark is in the manifest.
func (r *Repository) ResumeRemoval(ctx context.Context, m *Manifest) error {
	if m.Removed.IsZero() {
		return snapshot.ReasonInternal.New("resume the removal of %s: its manifest has no mark", m.Record.Name).On(r.info.Name)
	}
	if err := r.unlocked(ctx, m.Record); err != nil && !snapshot.IsNotFound(err) {
		return err
	}
	return r.removeObjects(ctx, m.Record)
}
