package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// holding is what lies under a snapshot's keys on a backend that should hold it and, by its record, does not.
type holding struct {
	occupied bool // there is data
	data     bool // it is the snapshot's
	manifest bool // the manifest is the snapshot's
}

// look finds out what lies where a copy is to go. Data that is neither this snapshot's nor that of the manifest beside it is
// of no use to anybody and may be replaced; a good copy of something else is an error, and stays.
func (c *Cluster) look(ctx context.Context, b Backend, rec *Record) (h holding, err error) {
	found, trusted, err := c.lookAtManifest(ctx, b, rec.Name)
	if err != nil {
		return h, err
	}
	h.manifest = found != nil && trusted && describes(found, rec)
	key := c.key(rec.DataKey())
	o, err := b.Stat(ctx, key)
	switch {
	case isNotFound(err):
		return h, nil
	case err != nil:
		return h, err
	}
	h.occupied = true
	if o.Size != rec.StoredSize && (found == nil || o.Size != found.StoredSize) {
		return h, nil // no checksum can fit
	}
	sum, err := hashOf(ctx, b, key)
	if ReasonOf(err) == ReasonChecksumMismatch {
		return h, nil // the backend itself says that its bytes are not what was stored
	}
	if err != nil {
		return h, err
	}
	h.data = sum == rec.StoredSHA256
	if !h.data && found != nil && sum == found.StoredSHA256 {
		return h, &Error{
			Reason: ReasonConflict, Backend: b.Name(),
			Message: fmt.Sprintf("backend %q holds another snapshot under %s: its checksums and those of the catalog are not the same", b.Name(), b.URI(key)),
			Hint:    "two clusters write to the same place: give each a prefix of its own, and move one of the two files away",
		}
	}
	return h, nil
}

// lookAtManifest returns what the manifest says that lies under a name, and whether it is to be believed; nil when there is
// none that says anything.
func (c *Cluster) lookAtManifest(ctx context.Context, b Backend, name string) (found *Record, trusted bool, err error) {
	doc, err := readSmall(ctx, b, c.key(ManifestKey(name)))
	switch {
	case isNotFound(err), errors.Is(err, errTooLarge):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	found, err = decodeManifest(bytes.TrimSpace(doc))
	if err != nil {
		return nil, false, nil //nolint:nilerr // damaged
	}
	return found, c.cfg.Trust.verify(doc) == nil, nil
}

// checkManifest returns the manifest beside a backend's copy, byte for byte. What is wrong with it is an [Error] with
// ReasonManifestUntrusted or ReasonChecksumMismatch.
func (c *Cluster) checkManifest(ctx context.Context, b Backend, rec *Record) ([]byte, error) {
	key := c.key(ManifestKey(rec.Name))
	doc, err := readSmall(ctx, b, key)
	if err != nil && !errors.Is(err, errTooLarge) {
		return nil, err
	}
	if err := c.cfg.Trust.verify(doc); err != nil {
		return nil, untrusted(b, key, err)
	}
	var found *Record
	if err == nil {
		found, err = decodeManifest(bytes.TrimSpace(doc))
	}
	if err == nil && !describes(found, rec) {
		err = fmt.Errorf("it is of %q of cluster %q, stored sha256 %s, revision %d, %d keys, hash %08x, which is not what the catalog has",
			found.Name, found.Cluster, found.StoredSHA256, found.Revision, found.TotalKeys, found.Hash)
	}
	if err == nil {
		return doc, nil
	}
	return nil, &Error{
		Reason: ReasonChecksumMismatch, Backend: b.Name(), Err: err, Message: fmt.Sprintf("read %s", b.URI(key)),
		Hint: "the manifest is damaged or another snapshot's; repair replaces it when another backend has a good copy",
	}
}

// describes reports whether a manifest says of the snapshot, its database and its object what the catalog says.
func describes(found, rec *Record) bool {
	return found.Name == rec.Name && found.Cluster == rec.Cluster &&
		found.StoredSHA256 == rec.StoredSHA256 && found.StoredSize == rec.StoredSize && found.SHA256 == rec.SHA256 && found.DBSize == rec.DBSize &&
		found.Revision == rec.Revision && found.TotalKeys == rec.TotalKeys && found.Hash == rec.Hash
}

// hashOf returns the sha256 of an object in hex.
func hashOf(ctx context.Context, b Backend, key string) (string, error) {
	r, err := b.Get(ctx, key)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
