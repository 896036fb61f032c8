package segments

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

// formatVersion is the version of the format of manifests and segments that is written, and the newest that is read.
const formatVersion = 1

// document is the JSON object beside a segment's data.
type document struct {
	FormatVersion int    `json:"formatVersion"`
	Cluster       string `json:"cluster"`
	segment.Header
	Size         int64    `json:"contentSizeBytes,string"` // before it is compressed
	Recipients   []string `json:"encryptionRecipients,omitempty"`
	StoredSize   int64    `json:"storedSizeBytes,string"`
	StoredSHA256 string   `json:"storedSha256"`
}

// Manifest is a segment as the manifest beside its data describes it.
type Manifest struct {
	segment.Header
	Cluster      string
	Size         int64 // of the content, before it is compressed
	Recipients   []string
	StoredSize   int64
	StoredSHA256 string
	Doc          []byte // byte for byte; a copy of the segment gets the same
}

// Ref returns the name of the segment.
func (m *Manifest) Ref() Ref { return RefOf(&m.Header) }

// Encrypted reports whether the data is encrypted.
func (m *Manifest) Encrypted() bool { return len(m.Recipients) > 0 }

// encode returns the manifest, signed if there is a signer.
func (m *Manifest) encode(signer *signing.Signer) ([]byte, error) {
	doc, err := json.MarshalIndent(document{
		FormatVersion: formatVersion, Cluster: m.Cluster, Header: m.Header, Size: m.Size,
		Recipients: m.Recipients, StoredSize: m.StoredSize, StoredSHA256: m.StoredSHA256,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the manifest of the segment %s: %w", m.Name(), err)
	}
	doc = append(doc, '\n')
	if signer != nil {
		doc = signer.Sign(doc)
	}
	// A manifest that no reader takes would make the segment useless; its writer must hear of it.
	if _, err := decodeManifest(doc); err != nil {
		return nil, fmt.Errorf("encode the manifest of the segment %s: it could not be read: %w", m.Name(), err)
	}
	return doc, nil
}

// decodeManifest reads the manifest of a segment.
func decodeManifest(doc []byte) (*Manifest, error) {
	d, err := repository.ParseStrict[document](doc, formatVersion)
	if err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	return &Manifest{
		Header: d.Header, Cluster: d.Cluster, Size: d.Size, Recipients: d.Recipients,
		StoredSize: d.StoredSize, StoredSHA256: d.StoredSHA256, Doc: doc,
	}, nil
}

func (d *document) check() error {
	switch {
	case d.Cluster != "" && !snapshot.ValidName(d.Cluster):
		return fmt.Errorf("%.100q is not the name of a cluster", d.Cluster)
	case d.Size <= 0 || d.StoredSize <= 0 || max(d.Size, d.StoredSize) > snapshot.MaxSize:
		return fmt.Errorf("no segment has %d bytes, stored in %d", d.Size, d.StoredSize)
	}
	return cmp.Or(repository.CheckSHA256(d.StoredSHA256), repository.CheckRecipients(d.Recipients), d.Check())
}

// Manifest reads the manifest of a segment, and holds it to trust, format, name, and the cluster when there is one. One
// that does not exist is an error that wraps ErrNotFound, and an error of the backend is returned as it is. One that is
// not trusted is an error with ReasonManifestUntrusted, one that is not usable has ReasonChecksumMismatch.
func (s *Segments) Manifest(ctx context.Context, r Ref) (*Manifest, error) {
	doc, err := s.repo.ReadDocument(ctx, s.manifestKey(r))
	if errors.Is(err, repository.ErrTooLarge) {
		return nil, s.damaged(r, err)
	}
	if err != nil {
		return nil, err
	}
	untrusted := s.trust.Verify(doc)
	m, err := decodeManifest(doc)
	if untrusted != nil || err != nil {
		if short := s.repo.ShortAnswer(ctx, s.manifestKey(r), len(doc)); short != nil {
			return nil, short
		}
	}
	switch {
	case untrusted != nil:
		return nil, s.untrusted(r, untrusted)
	case err != nil:
		return nil, s.damaged(r, fmt.Errorf("its manifest: %w", err))
	case m.Ref() != r:
		return nil, s.damaged(r, fmt.Errorf("its manifest is of the segment %s", m.Ref().path()))
	// A manifest of another cluster was copied here, and its signature may be good: one key can sign for several
	// clusters.
	case s.cluster != "" && m.Cluster != s.cluster:
		return nil, s.untrusted(r, fmt.Errorf("it is of cluster %q, and not of %q", m.Cluster, s.cluster))
	}
	return m, nil
}

// untrusted is the error of a manifest that is not signed by a trusted key, or of another cluster.
func (s *Segments) untrusted(r Ref, cause error) error {
	return snapshot.ReasonManifestUntrusted.
		New("the manifest of the segment %s, revisions %d to %d, is not trusted", s.URI(r), r.First, r.Last).
		On(s.Name()).Because(cause).
		Advise("use another backend's copy; if it is signed with a key of yours, add that to the trusted keys")
}
