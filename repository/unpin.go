package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Another program's file is pinned when it is adopted, and nothing may be written beside it: that program may take it
// for one of its own. The record alone must not unpin the file: the catalog is no witness. So an unpinned file has a
// note in a directory of its own, and without the note it is not removed.

// unpinnedDir is where the notes are, below the cluster's prefix.
const unpinnedDir = "snapshotd-unpinned/"

// unpinNote returns the note of an adopted file. Its content binds it to the very bytes that were adopted: a later
// file of the same name is pinned again.
func unpinNote(rec *snapshot.Record) []byte {
	return fmt.Appendf(nil, "{\"formatVersion\": 1, \"file\": %q, \"storedSha256\": %q}\n", rec.File, rec.StoredSHA256)
}

func (r *Repository) unpinNoteKey(rec *snapshot.Record) string {
	return r.key(unpinnedDir + snapshot.ManifestKey(rec.Name))
}

// Unpin notes that the file of an adopted snapshot may be removed. The record is changed before: an interruption
// between the two leaves a file that is not removed, and the same update once more ends it.
func (r *Repository) Unpin(ctx context.Context, rec *snapshot.Record) error {
	if err := r.OpenVerified(ctx, false); err != nil {
		return err
	}
	if !snapshot.FileOf(rec.Name, rec.File) {
		return r.notItsFile(rec)
	}
	doc := unpinNote(rec)
	opts := PutOptions{ContentType: JSONContentType, SizeHint: int64(len(doc))}
	return r.backend.Put(ctx, r.unpinNoteKey(rec), bytes.NewReader(doc), opts)
}

// Pin removes the note of an adopted file, if there is one.
func (r *Repository) Pin(ctx context.Context, rec *snapshot.Record) error {
	if err := r.OpenVerified(ctx, false); err != nil {
		return err
	}
	return r.backend.Delete(ctx, r.unpinNoteKey(rec))
}

// unpinned returns an error with ReasonPinned when an adopted file has no note.
func (r *Repository) unpinned(ctx context.Context, rec *snapshot.Record) error {
	doc, err := r.ReadDocument(ctx, r.unpinNoteKey(rec))
	if err != nil && !snapshot.IsNotFound(err) && !errors.Is(err, ErrTooLarge) {
		return err
	}
	if bytes.Equal(doc, unpinNote(rec)) {
		return nil
	}
	return snapshot.ReasonPinned.
		New("backend %q: the record of %s says that it is not pinned, and its backend does not", r.info.Name, rec.Name).
		On(r.info.Name).Advise("unpin it again, if it may be removed: snapshotd update %s --unpin", rec.Name)
}
