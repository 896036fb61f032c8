package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// maxDocument bounds how much is read of a manifest or marker: a file that another program put there may have any size.
const maxDocument = 1 << 20

// ErrManifestUnusable: the manifest is too large, cannot be decoded, or is of another snapshot or cluster.
var ErrManifestUnusable = errors.New("the manifest is not usable")

// ErrTooLarge: an object is larger than any manifest or marker.
var ErrTooLarge = errors.New("is no document of ours")

// unusableError is the cause why a manifest is not usable, and reads as that alone.
type unusableError struct{ cause error }

// Error returns the cause.
func (e *unusableError) Error() string { return e.cause.Error() }

// Unwrap returns the sentinel and the cause.
func (e *unusableError) Unwrap() []error { return []error{ErrManifestUnusable, e.cause} }

// ReadManifest reads the manifest of a snapshot. It is the only reader of manifests, so that no caller can leave out a
// check: trust, format, name, and the cluster when the repository has one, in this order.
//
// A manifest that does not exist is an error that wraps ErrNotFound, and an error of the backend is returned as it is.
// One that is not trusted is an error with ReasonManifestUntrusted, and one that is not usable has
// ReasonChecksumMismatch and wraps [ErrManifestUnusable]. Beside these two errors the manifest is returned if it could
// be decoded, for callers that must know its claim.
func (r *Repository) ReadManifest(ctx context.Context, name string) (*Manifest, error) {
	key := r.manifestKey(name)
	doc, err := r.ReadDocument(ctx, key)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return nil, err
	}
	var m *Manifest // decoded before it is trusted: no record is made of it, and a caller may need to know its claim
	if err == nil {
		m, err = decodeManifest(doc)
	}
	// A document that is too large was not kept. It then counts as one without a signature.
	uerr := r.trust.Verify(doc)
	if doc != nil && (err != nil || uerr != nil) {
		if short := r.ShortAnswer(ctx, key, len(doc)); short != nil {
			return nil, short
		}
	}
	if uerr != nil {
		return m, r.untrusted(key, uerr)
	}
	if err == nil {
		err = r.belongs(m.Record, name)
	}
	if err != nil {
		return m, r.unusable(key, err)
	}
	return m, nil
}

// belongs returns why a manifest is not that of a snapshot of this name here.
func (r *Repository) belongs(found *snapshot.Record, name string) error {
	switch {
	case found.Name != name:
		return fmt.Errorf("the manifest is of %q", found.Name)
	case r.cluster != "" && found.Cluster != r.cluster:
		return fmt.Errorf("the manifest is of cluster %q", found.Cluster)
	}
	return nil
}

// CheckManifest returns the manifest beside a copy, byte for byte, if it says the same of the snapshot as its record.
// If not, the error has ReasonManifestUntrusted or ReasonChecksumMismatch.
func (r *Repository) CheckManifest(ctx context.Context, rec *snapshot.Record) (doc []byte, err error) {
	m, err := r.ReadManifest(ctx, rec.Name)
	if err != nil && (m == nil || !errors.Is(err, ErrManifestUnusable)) {
		return nil, err
	}
	if err == nil && !m.Removed.IsZero() {
		return nil, r.unusable(r.manifestKey(rec.Name), m.leaving())
	}
	if err == nil && r.putBack(m, rec) {
		return nil, r.unusable(r.manifestKey(rec.Name), m.older(rec))
	}
	if found := m.Record; err != nil || !describes(found, rec) {
		return nil, r.unusable(r.manifestKey(rec.Name), fmt.Errorf(
			"it is of %q of cluster %q, stored sha256 %s, revision %d, %d keys, hash %08x, which is not what the catalog has",
			found.Name, found.Cluster, found.StoredSHA256, found.Revision, found.TotalKeys, found.Hash))
	}
	return m.Doc, nil
}

// Older returns an error when a manifest was put back: it has a lower generation than the record.
func (r *Repository) Older(m *Manifest, rec *snapshot.Record) error {
	if !r.putBack(m, rec) {
		return nil
	}
	return r.unusable(r.manifestKey(rec.Name), m.older(rec))
}

// putBack reports whether a manifest is older than the catalog knows, and not because a replica that could not reach it
// has changed the snapshot. An old manifest is signed as well as the current one: without the generation, it could take
// back a pin.
func (r *Repository) putBack(m *Manifest, rec *snapshot.Record) bool {
	return m.Record.Generation < rec.Generation && !rec.Outdated(r.info.Name)
}

// leaving says that the manifest has the mark of a removal.
func (m *Manifest) leaving() error {
	return fmt.Errorf("the removal of this copy began at %s", m.Removed.Format(time.RFC3339))
}

func (m *Manifest) older(rec *snapshot.Record) error {
	return fmt.Errorf("it has generation %d, and the catalog knows generation %d: an older manifest was put back",
		m.Record.Generation, rec.Generation)
}

// serves reports whether the manifest can stay beside a copy of the record's snapshot.
func (m *Manifest) serves(rec *snapshot.Record) bool {
	return describes(m.Record, rec) && m.Removed.IsZero() && m.Record.Generation >= rec.Generation
}

// claim returns the manifest under a name and whether it is trusted; nil when there is none that can be decoded. It may
// claim to be of another snapshot or cluster.
func (r *Repository) claim(ctx context.Context, name string) (m *Manifest, trusted bool, err error) {
	m, err = r.ReadManifest(ctx, name)
	switch {
	case err == nil, snapshot.IsNotFound(err), errors.Is(err, ErrManifestUnusable):
		return m, true, nil
	case snapshot.ReasonOf(err) == snapshot.ReasonManifestUntrusted:
		return m, false, nil
	}
	return nil, false, err
}

// describes reports whether a manifest says the same of the snapshot, its database and its object as the record.
// Labels and the pin are not compared: Update writes them to the catalog and then to each manifest, and may have been
// interrupted on the way.
func describes(found, rec *snapshot.Record) bool {
	return found.Name == rec.Name && found.Cluster == rec.Cluster &&
		found.StoredSHA256 == rec.StoredSHA256 && found.StoredSize == rec.StoredSize &&
		found.SHA256 == rec.SHA256 && found.DBSize == rec.DBSize &&
		found.Revision == rec.Revision && found.TotalKeys == rec.TotalKeys && found.Hash == rec.Hash
}

// untrusted is the error of a manifest that is not signed by a trusted key.
func (r *Repository) untrusted(key string, cause error) error {
	return snapshot.ReasonManifestUntrusted.New("the manifest %s is not trusted", r.info.URI(key)).
		On(r.info.Name).Because(cause).
		Advise("use another backend's copy; if it is signed with a key of yours, add that to the trusted keys")
}

// unusable returns the error of a manifest that no retry makes better.
func (r *Repository) unusable(key string, cause error) error {
	return snapshot.ReasonChecksumMismatch.New("read %s", r.info.URI(key)).
		On(r.info.Name).Because(&unusableError{cause}).Final().
		Advise("the manifest is damaged or another snapshot's; repair replaces it when another backend has a good copy")
}

// ReadDocument reads an object that is a small document, such as a manifest. A larger one is an error that wraps
// ErrTooLarge.
func (r *Repository) ReadDocument(ctx context.Context, key string) ([]byte, error) {
	in, err := r.backend.Get(ctx, key, Range{})
	if err != nil {
		return nil, err
	}
	return r.readDocument(key, in)
}

// readDocument reads an open document, and closes it.
func (r *Repository) readDocument(key string, in io.ReadCloser) ([]byte, error) {
	defer func() { _ = in.Close() }()
	doc, err := io.ReadAll(io.LimitReader(in, maxDocument+1))
	if err != nil {
		return nil, snapshot.ReasonBackendUnavailable.New("backend %q: read %s", r.info.Name, key).
			On(r.info.Name).Because(err)
	}
	if len(doc) > maxDocument {
		return nil, fmt.Errorf("backend %q: %s %w: it has more than %d bytes", r.info.Name, key, ErrTooLarge, maxDocument)
	}
	return doc, nil
}
