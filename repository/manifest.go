package repository

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
)

// manifestVersion is the version of the manifest's format that this program writes, and the newest that it reads.
const manifestVersion = 1

// maxManifestText bounds the texts of a manifest that have no fixed length, so that the record fits into etcd.
const maxManifestText = 256 << 10

// The API's enumerations in protobuf's JSON mapping begin with their type.
const (
	triggerPrefix     = "TRIGGER_"
	compressionPrefix = "COMPRESSION_"
)

// document is the JSON object beside a snapshot's data. Its fields are those of the API's Snapshot message in
// protobuf's JSON mapping, without the parts that only the catalog knows.
//
// State and locations are not in it: a manifest is written before it is known whether the other backends succeed, and
// it never changes because one of them fails. Numbers of 64 bits are texts, because many readers of JSON keep only 53.
// A field that is left out when it is empty was added after the first version: manifests without it stay valid, and
// older programs read the new ones, since they ignore the members that they do not know.
type document struct {
	FormatVersion  int               `json:"formatVersion"`
	Generation     int64             `json:"generation,string,omitempty"` // none in manifests of the first version
	Removed        *time.Time        `json:"removed,omitempty"`           // when the removal of this copy began
	Name           string            `json:"name"`
	Cluster        string            `json:"cluster"`
	RequestID      string            `json:"requestId,omitempty"`
	Backends       []string          `json:"backends,omitempty"` // that were chosen; the catalog knows whether each got it
	Pinned         bool              `json:"pinned,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Trigger        string            `json:"trigger"`
	Schedule       string            `json:"schedule,omitempty"`
	TraceID        string            `json:"traceId,omitempty"`
	CreateTime     time.Time         `json:"createTime"`
	Duration       jsonDuration      `json:"duration"`
	Node           string            `json:"node"`
	EtcdVersion    string            `json:"etcdVersion"`
	StorageVersion string            `json:"storageVersion,omitempty"`
	EtcdClusterID  string            `json:"etcdClusterId"`
	EtcdMemberID   string            `json:"etcdMemberId"`
	Revision       int64             `json:"revision,string"`
	OldestRevision int64             `json:"oldestRevision,string,omitempty"` // none in manifests of the first version
	TotalKeys      int64             `json:"totalKeys,string"`
	DBSize         int64             `json:"dbSizeBytes,string"`
	SHA256         string            `json:"sha256"`
	Hash           uint32            `json:"hash"`
	Alarms         []string          `json:"alarms,omitempty"`
	Compression    string            `json:"compression"`
	Recipients     []string          `json:"encryptionRecipients,omitempty"`
	StoredSize     int64             `json:"storedSizeBytes,string"`
	StoredSHA256   string            `json:"storedSha256"`
}

// jsonDuration is a duration in protobuf's JSON mapping: "1.5s". The mapping is done by hand, so that the domain needs
// no generated code.
type jsonDuration time.Duration

// durationText is the form of a duration. Earlier versions have written more digits than nanoseconds need.
var durationText = regexp.MustCompile(`^[0-9]{1,10}(\.[0-9]{1,18})?s$`)

// maxDuration is the longest duration that is read.
const maxDuration = 1_000_000_000 * time.Second

// MarshalJSON implements [json.Marshaler]. A negative duration is that of a clock that was set back, and says nothing.
func (d jsonDuration) MarshalJSON() ([]byte, error) {
	n := max(d, 0)
	// Trailing zeros are cut, as protobuf's mapping allows: the same duration always has the same bytes.
	text := fmt.Sprintf("%d.%09d", n/jsonDuration(time.Second), n%jsonDuration(time.Second))
	return json.Marshal(strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + "s")
}

// UnmarshalJSON implements [json.Unmarshaler].
func (d *jsonDuration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	if err != nil || !durationText.MatchString(s) || v > maxDuration {
		return fmt.Errorf("%.40q is not a duration in seconds", s)
	}
	*d = jsonDuration(v)
	return nil
}

// Manifest is the snapshot as the manifest beside its data describes it.
type Manifest struct {
	Record *snapshot.Record // without state and locations
	Doc    []byte           // byte for byte; a copy of the snapshot gets the same

	// Removed is when the removal of this copy began; zero when it was not removed. Only this mark lets an interrupted
	// removal go on: the catalog is no witness.
	Removed time.Time

	chosen []string
}

// Chosen returns the names of the backends that were chosen for the snapshot. Whether each of them holds it, the
// manifest does not know.
func (m *Manifest) Chosen() []string { return slices.Clone(m.chosen) }

// EncodeManifest returns the manifest of a snapshot whose data is durable, signed if there is a signer. The document
// ends with the closing brace in a line of its own, as the signature needs it.
func EncodeManifest(rec *snapshot.Record, signer *signing.Signer) ([]byte, error) {
	return encodeDocument(rec, rec.Backends(), time.Time{}, signer)
}

// encodeDocument returns the manifest of a snapshot that was to be stored on these backends, removed from this one at a
// time unless that is zero.
func encodeDocument(
	rec *snapshot.Record, backends []string, removed time.Time, signer *signing.Signer,
) ([]byte, error) {
	// A pointer, so that a manifest without the mark has no member of this name: that is the form of all versions.
	var mark *time.Time
	if !removed.IsZero() {
		mark = &removed
	}
	b, err := json.MarshalIndent(document{
		FormatVersion:  manifestVersion,
		Generation:     rec.Generation,
		Removed:        mark,
		Name:           rec.Name,
		Cluster:        rec.Cluster,
		RequestID:      rec.RequestID,
		Backends:       backends,
		Pinned:         rec.Pinned,
		Labels:         rec.Labels,
		Trigger:        triggerPrefix + rec.Trigger.String(),
		Schedule:       rec.Schedule,
		TraceID:        rec.TraceID,
		CreateTime:     rec.CreateTime,
		Duration:       jsonDuration(rec.Duration),
		Node:           rec.Node,
		EtcdVersion:    rec.EtcdVersion,
		StorageVersion: rec.StorageVersion,
		EtcdClusterID:  rec.EtcdClusterID,
		EtcdMemberID:   rec.EtcdMemberID,
		Revision:       rec.Revision,
		OldestRevision: rec.OldestRevision,
		TotalKeys:      rec.TotalKeys,
		DBSize:         rec.DBSize,
		SHA256:         rec.SHA256,
		Hash:           rec.Hash,
		Alarms:         rec.Alarms,
		Compression:    compressionPrefix + rec.Compression.String(),
		Recipients:     rec.EncryptionRecipients,
		StoredSize:     rec.StoredSize,
		StoredSHA256:   rec.StoredSHA256,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the manifest of %q: %w", rec.Name, err)
	}
	b = append(b, '\n')
	if signer != nil {
		b = signer.Sign(b)
	}
	// A manifest that no reader takes would make the snapshot useless; its writer must hear of it.
	if _, err := decodeManifest(b); err != nil {
		return nil, fmt.Errorf("encode the manifest of %q: it could not be read: %w", rec.Name, err)
	}
	return b, nil
}

// decodeManifest returns the snapshot that a manifest describes. A snapshot of another format, or without a size or
// checksum, is an error: nothing could be compared with it.
func decodeManifest(doc []byte) (*Manifest, error) {
	d, err := parseDocument(doc)
	if err != nil {
		return nil, fmt.Errorf("decode the manifest: %w", err)
	}
	rec := &snapshot.Record{
		Snapshot: snapshot.Snapshot{
			Name: d.Name, Cluster: d.Cluster, Labels: d.Labels, Pinned: d.Pinned,
			Trigger:    snapshot.ParseTrigger(strings.TrimPrefix(d.Trigger, triggerPrefix)),
			Schedule:   d.Schedule,
			TraceID:    d.TraceID,
			CreateTime: d.CreateTime.UTC(), Duration: time.Duration(d.Duration), Node: d.Node,
			EtcdVersion: d.EtcdVersion, StorageVersion: d.StorageVersion,
			EtcdClusterID: d.EtcdClusterID, EtcdMemberID: d.EtcdMemberID,
			Revision: d.Revision, OldestRevision: d.OldestRevision, TotalKeys: d.TotalKeys,
			DBSize: d.DBSize, SHA256: d.SHA256, Hash: d.Hash, Alarms: d.Alarms,
			Compression:          snapshot.ParseCompression(strings.TrimPrefix(d.Compression, compressionPrefix)),
			EncryptionRecipients: d.Recipients,
			StoredSize:           d.StoredSize, StoredSHA256: d.StoredSHA256,
		},
		RequestID: d.RequestID, Generation: d.Generation,
	}
	if err := d.check(rec.Compression); err != nil {
		return nil, fmt.Errorf("decode the manifest: %w", err)
	}
	m := &Manifest{Record: rec, Doc: doc, chosen: d.Backends}
	if d.Removed != nil {
		m.Removed = d.Removed.UTC()
	}
	return m, nil
}

// check returns why a document is no manifest of this program. A document on a backend may be forged, so it is held to
// the limits of a manifest that a save writes.
func (d *document) check(compression snapshot.Compression) error {
	switch {
	case !snapshot.ValidName(d.Name):
		return fmt.Errorf("%.100q is not a snapshot's name", d.Name)
	case compression == snapshot.CompressionUnspecified:
		return fmt.Errorf("%.100q is not a compression", d.Compression)
	case d.StoredSize <= 0 || d.DBSize <= 0 || len(d.StoredSHA256) != 64 || len(d.SHA256) != 64:
		return errors.New("a size or checksum is missing")
	case d.CreateTime.Unix() <= 0:
		return errors.New("createTime is missing")
	case d.OldestRevision < 0 || d.OldestRevision > snapshot.MaxRevision:
		return fmt.Errorf("%d is not a revision", d.OldestRevision)
	case d.Generation < 0 || d.Generation > snapshot.MaxGeneration:
		return fmt.Errorf("%d is not a generation", d.Generation)
	case d.Removed != nil && d.Removed.Unix() <= 0:
		return errors.New("removed is not a time")
	case d.textSize() > maxManifestText:
		return fmt.Errorf("its texts have more than %d bytes", maxManifestText)
	}
	return nil
}

// textSize returns how many bytes the texts have that become part of the record. By default etcd refuses
// a request of more than 1.5 MiB, so a manifest with longer texts could never be recorded, and each reconcile would try
// it again.
func (d *document) textSize() int {
	n := len(d.Name) + len(d.Cluster) + len(d.RequestID) + len(d.Node) + len(d.EtcdVersion) + len(d.StorageVersion) +
		len(d.EtcdClusterID) + len(d.EtcdMemberID) + len(d.Schedule) + len(d.TraceID)
	for k, v := range d.Labels {
		n += len(k) + len(v)
	}
	for _, r := range d.Recipients {
		n += len(r)
	}
	for _, b := range d.Backends {
		n += len(b)
	}
	for _, a := range d.Alarms {
		n += len(a)
	}
	return n
}
