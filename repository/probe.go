package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Whole returns nil when data and manifest of a snapshot are there and the data has its size. This is all that can be
// known without reading the data. The error wraps ErrNotFound when one of them is missing, and has ReasonConflict when
// the size is another. An adopted snapshot has no manifest, and the size that its location here says.
func (r *Repository) Whole(ctx context.Context, rec *snapshot.Record) error {
	// Copies of an adopted snapshot may differ in size, because other programs write them. Each location has its own.
	want, adopted := rec.StoredSize, rec.Trigger == snapshot.TriggerAdopted
	if l := rec.Location(r.info.Name); adopted && l != nil {
		want = l.Size
	}
	o, err := r.backend.Stat(ctx, r.dataKey(rec))
	if err == nil && !adopted {
		_, err = r.backend.Stat(ctx, r.manifestKey(rec.Name))
	}
	if err == nil && o.Size != want {
		return snapshot.ReasonConflict.New("it has %d bytes instead of %d", o.Size, want).On(r.info.Name)
	}
	return err
}

// Shown returns a snapshot as the backend itself shows it, whole: its store is the one that it was, its manifest is
// usable, trusted and without the mark of a removal, and its data has the size that the manifest says.
func (r *Repository) Shown(ctx context.Context, name string) (*snapshot.Record, error) {
	if err := r.OpenVerified(ctx, false); err != nil {
		return nil, err
	}
	m, err := r.ReadManifest(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case !m.Removed.IsZero():
		return nil, r.unusable(r.manifestKey(name), m.leaving())
	}
	return m.Record, r.Whole(ctx, m.Record)
}

// Occupant says which objects are under the keys of a snapshot, on a backend that by the record does not hold it.
type Occupant struct {
	Occupied bool // there is data
	Data     bool // the data is the snapshot's
	Manifest bool // the manifest is the snapshot's
}

// Probe looks for the objects that a copy of the snapshot would replace. Data that is neither this snapshot's nor that
// of the manifest beside it is of no use to anyone and may be replaced. A good copy of another snapshot is an error,
// and stays.
func (r *Repository) Probe(ctx context.Context, rec *snapshot.Record) (found Occupant, err error) {
	m, trusted, err := r.claim(ctx, rec.Name)
	if err != nil {
		return found, err
	}
	// A manifest with a lower generation is replaced, too: it could take back a pin.
	found.Manifest = m != nil && trusted && m.serves(rec)
	key := r.dataKey(rec)
	o, err := r.backend.Stat(ctx, key)
	switch {
	case snapshot.IsNotFound(err):
		return found, nil
	case err != nil:
		return found, err
	}
	found.Occupied = true
	// Sizes first: hashing reads the whole object, which for a backend far away takes minutes.
	if o.Size != rec.StoredSize && (m == nil || o.Size != m.Record.StoredSize) {
		return found, nil // no checksum can be right
	}
	sum, err := r.hash(ctx, key)
	if snapshot.ReasonOf(err) == snapshot.ReasonChecksumMismatch {
		return found, nil // the backend itself says that its bytes are not those that were stored
	}
	if err != nil {
		return found, err
	}
	found.Data = sum == rec.StoredSHA256
	if !found.Data && m != nil && sum == m.Record.StoredSHA256 {
		return found, r.otherSnapshot(key)
	}
	return found, nil
}

// otherSnapshot is the error that a key holds a good copy of another snapshot: it may be the only one that its cluster
// has.
func (r *Repository) otherSnapshot(key string) error {
	return snapshot.ReasonConflict.
		New("backend %q holds another snapshot under %s: its checksums and those of the catalog are not the same",
			r.info.Name, r.info.URI(key)).On(r.info.Name).Final().
		Advise("two clusters write to the same place: give each a prefix of its own, and move one of the two files away")
}

// ListOne asks the backend for the objects of one snapshot, as a listing would show them. It opens the store first: an
// unmounted directory shows no objects either.
func (r *Repository) ListOne(ctx context.Context, rec *snapshot.Record) (*Group, error) {
	if err := r.OpenVerified(ctx, false); err != nil {
		return nil, err
	}
	// Two requests instead of a listing: there may be thousands of objects below the prefix.
	g := &Group{Name: rec.Name}
	data, err := r.backend.Stat(ctx, r.dataKey(rec))
	// Without data the manifest is not asked for: alone it is no copy.
	if err == nil {
		g.Objects = append(g.Objects, data)
		var manifest Object
		manifest, err = r.backend.Stat(ctx, r.manifestKey(rec.Name))
		g.Manifest, g.ManifestTime = err == nil, manifest.ModTime
	}
	if snapshot.IsNotFound(err) {
		err = nil
	}
	return g, err
}

// hash returns the sha256 of an object in hex. It reads the whole object, so the size is compared first.
func (r *Repository) hash(ctx context.Context, key string) (string, error) {
	in, err := r.backend.Get(ctx, key, Range{})
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// HasManifest reports whether there is a manifest under a name, be it usable or not.
func (r *Repository) HasManifest(ctx context.Context, name string) (bool, error) {
	_, err := r.backend.Stat(ctx, r.manifestKey(name))
	if snapshot.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
