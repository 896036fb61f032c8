package repository

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// ManifestVersion is the version of the manifest's format that this program writes, and the newest that it reads.
const ManifestVersion = 1

// maxManifestText bounds the texts of a manifest that have no fixed length, so that the record fits into etcd.
const maxManifestText = 256 << 10

// The API's enumerations in protobuf's JSON mapping begin with their type.
const (
	triggerPrefix     = "TRIGGER_"
	compressionPrefix = "COMPRESSION_"
)

// document is the JSON object beside a snapshot's data. Its fields are those of the API's Snapshot message in
// protobuf's JSON mapping, without the parts that only the catalog knows.
type document struct {
	FormatVersion  int               `json:"formatVersion"`
	Name           string            `json:"name"`
	Cluster        string            `json:"cluster"`
	RequestID      string            `json:"requestId,omitempty"`
	Backends       []string          `json:"backends,omitempty"` // that were chosen; the catalog knows whether each got it
	Pinned         bool              `json:"pinned,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Trigger        string            `json:"trigger"`
	CreateTime     time.Time         `json:"createTime"`
	Duration       jsonDuration      `json:"duration"`
	Node           string            `json:"node"`
	EtcdVersion    string            `json:"etcdVersion"`
	StorageVersion string            `json:"storageVersion,omitempty"`
	EtcdClusterID  string            `json:"etcdClusterId"`
	EtcdMemberID   string            `json:"etcdMemberId"`
	Revision       int64             `json:"revision,string"`
	TotalKeys      int64             `json:"totalKeys,string"`
	DBSize         int64             `json:"dbSizeBytes,string"`
	SHA256         string            `json:"sha256"`
	Hash           uint32            `json:"hash"`
	Compression    string            `json:"compression"`
	Recipients     []string          `json:"encryptionRecipients,omitempty"`
	StoredSize     int64             `json:"storedSizeBytes,string"`
	StoredSHA256   string            `json:"storedSha256"`
}

// jsonDuration is a duration in protobuf's JSON mapping: "1.5s". The mapping is done by hand, so that the domain needs
// no generated code.
type jsonDuration time.Duration

// MarshalJSON implements [json.Marshaler].
func (d jsonDuration) MarshalJSON() ([]byte, error) {
	return json.Marshal(strconv.FormatFloat(time.Duration(d).Seconds(), 'f', -1, 64) + "s")
}

// UnmarshalJSON implements [json.Unmarshaler].
func (d *jsonDuration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	number, ok := strings.CutSuffix(s, "s")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || v < 0 || v > 1e9 {
		return fmt.Errorf("%q is not a duration in seconds", s)
	}
	*d = jsonDuration(time.Duration(v*1e9 + 0.5).Round(time.Nanosecond))
	return nil
}

// Manifest is the snapshot as the manifest beside its data describes it.
type Manifest struct {
	Record *snapshot.Record // without state and locations
	Doc    []byte           // byte for byte; a copy of the snapshot gets the same

	chosen []string
}

// Chosen returns the names of the backends that were chosen for the snapshot. Whether each of them holds it, the
// manifest does not know.
func (m *Manifest) Chosen() []string { return slices.Clone(m.chosen) }

// EncodeManifest returns the manifest of a snapshot whose data is durable, signed if there is a signer. The document
// ends with the closing brace in a line of its own, as the signature needs it.
func EncodeManifest(rec *snapshot.Record, signer *Signer) ([]byte, error) {
	var backends []string
	for _, l := range rec.Locations() {
		backends = append(backends, l.Backend)
	}
	b, err := json.MarshalIndent(document{
		FormatVersion:  ManifestVersion,
		Name:           rec.Name,
		Cluster:        rec.Cluster,
		RequestID:      rec.RequestID,
		Backends:       backends,
		Pinned:         rec.Pinned,
		Labels:         rec.Labels,
		Trigger:        triggerPrefix + rec.Trigger.String(),
		CreateTime:     rec.CreateTime,
		Duration:       jsonDuration(rec.Duration),
		Node:           rec.Node,
		EtcdVersion:    rec.EtcdVersion,
		StorageVersion: rec.StorageVersion,
		EtcdClusterID:  rec.EtcdClusterID,
		EtcdMemberID:   rec.EtcdMemberID,
		Revision:       rec.Revision,
		TotalKeys:      rec.TotalKeys,
		DBSize:         rec.DBSize,
		SHA256:         rec.SHA256,
		Hash:           rec.Hash,
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
		b = signer.sign(b)
	}
	return b, nil
}

// decodeManifest returns the snapshot that a manifest describes. A snapshot of another format, or without a size or
// checksum, is an error: nothing could be compared with it.
func decodeManifest(doc []byte) (*Manifest, error) {
	var d document
	if err := json.Unmarshal(doc, &d); err != nil {
		return nil, fmt.Errorf("decode the manifest: %w", err)
	}
	rec := &snapshot.Record{
		Snapshot: snapshot.Snapshot{
			Name: d.Name, Cluster: d.Cluster, Labels: d.Labels, Pinned: d.Pinned,
			Trigger:    snapshot.ParseTrigger(strings.TrimPrefix(d.Trigger, triggerPrefix)),
			CreateTime: d.CreateTime.UTC(), Duration: time.Duration(d.Duration), Node: d.Node,
			EtcdVersion: d.EtcdVersion, StorageVersion: d.StorageVersion,
			EtcdClusterID: d.EtcdClusterID, EtcdMemberID: d.EtcdMemberID,
			Revision: d.Revision, TotalKeys: d.TotalKeys, DBSize: d.DBSize, SHA256: d.SHA256, Hash: d.Hash,
			Compression:          snapshot.ParseCompression(strings.TrimPrefix(d.Compression, compressionPrefix)),
			EncryptionRecipients: d.Recipients,
			StoredSize:           d.StoredSize, StoredSHA256: d.StoredSHA256,
		},
		RequestID: d.RequestID,
	}
	if err := d.check(rec.Compression); err != nil {
		return nil, fmt.Errorf("decode the manifest: %w", err)
	}
	return &Manifest{Record: rec, Doc: doc, chosen: d.Backends}, nil
}

// check returns why a document is no manifest of this program. Anyone who can write to the backend can put one there,
// so it is held to the limits of a manifest that a save writes.
func (d *document) check(compression snapshot.Compression) error {
	switch {
	case d.FormatVersion < 1:
		return errors.New("it has no formatVersion")
	case d.FormatVersion > ManifestVersion:
		return fmt.Errorf("its format version is %d, and this program reads up to %d; use a newer snapshotd",
			d.FormatVersion, ManifestVersion)
	case !snapshot.ValidName(d.Name):
		return fmt.Errorf("%.100q is not a snapshot's name", d.Name)
	case compression == snapshot.CompressionUnspecified:
		return fmt.Errorf("%.100q is not a compression", d.Compression)
	case d.StoredSize <= 0 || d.DBSize <= 0 || len(d.StoredSHA256) != 64 || len(d.SHA256) != 64:
		return errors.New("a size or checksum is missing")
	case d.CreateTime.Unix() <= 0:
		return errors.New("createTime is missing")
	case d.textSize() > maxManifestText:
		return fmt.Errorf("its texts have more than %d bytes", maxManifestText)
	}
	return nil
}

// textSize returns how many bytes the texts have that become part of the record.
func (d *document) textSize() int {
	n := len(d.Name) + len(d.RequestID) + len(d.Node) + len(d.EtcdVersion) + len(d.StorageVersion) +
		len(d.EtcdClusterID) + len(d.EtcdMemberID)
	for k, v := range d.Labels {
		n += len(k) + len(v)
	}
	for _, r := range d.Recipients {
		n += len(r)
	}
	return n
}
