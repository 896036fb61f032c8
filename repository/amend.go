package repository

import (
	"context"
	"maps"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Amend writes the labels of a record into the manifest of its copy, and whether it is pinned, if that is asked for.
// All else stays as the manifest has it, and the record alone unpins nothing: the catalog is no witness, and its
// content gets no signature.
func (r *Repository) Amend(ctx context.Context, rec *snapshot.Record, pinned *bool) error {
	if err := r.OpenVerified(ctx, false); err != nil {
		return err
	}
	m, err := r.ReadManifest(ctx, rec.Name)
	switch {
	case snapshot.IsNotFound(err):
		return r.unamendable(rec, "it is missing")
	case err != nil:
		return err
	case !m.Removed.IsZero():
		return r.unamendable(rec, "the removal of this copy has begun")
	// The manifest of another snapshot would get this one's labels, with a good signature.
	case m.Record.StoredSHA256 != rec.StoredSHA256:
		return r.unamendable(rec, "it is of another snapshot than the record")
	}
	next := m.Record.Copy()
	// Without a word about the pin, a pin in either of the two stays.
	next.Labels, next.Pinned = rec.Labels, rec.Pinned || m.Record.Pinned
	if pinned != nil {
		next.Pinned = *pinned
	}
	next.Generation = rec.Generation
	if m.Record.Generation >= rec.Generation {
		if next.Pinned == m.Record.Pinned && maps.Equal(next.Labels, m.Record.Labels) {
			return nil // an earlier call has written it
		}
		next.Generation = m.Record.Generation + 1 // the catalog came back from the past
	}
	doc, err := encodeDocument(next, m.chosen, m.Removed, r.signer)
	if err != nil {
		return err
	}
	return r.PutManifest(ctx, rec.Name, doc)
}

func (r *Repository) unamendable(rec *snapshot.Record, why string) error {
	return snapshot.ReasonConflict.
		New("backend %q: the change is not written into the manifest of %s: %s", r.info.Name, rec.Name, why).
		On(r.info.Name).Final().Advise("reconcile, and repair from another backend; then make the same update again")
}
