package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// ManifestVersion is the version of the manifest's format that this program writes, and the newest that it reads.
const ManifestVersion = 1

// maxManifest bounds what is read of a manifest or marker: a file that somebody put there may have any size.
const maxManifest = 1 << 20

// maxManifestText bounds what a manifest says in texts of no fixed length, so that the record fits into etcd.
const maxManifestText = 256 << 10

const jsonContentType = "application/json"

// manifest is the JSON object beside a snapshot's data. Its fields are those of the API's Snapshot message in protobuf's
// JSON mapping, without the parts that only the catalog knows.
type manifest struct {
	FormatVersion  int               `json:"formatVersion"`
	Name           string            `json:"name"`
	Cluster        string            `json:"cluster"`
	RequestID      string            `json:"requestId,omitempty"`
	Backends       []string          `json:"backends,omitempty"` // that were chosen; whether each got it, only the catalog knows
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

// jsonDuration is a duration in protobuf's JSON mapping: "1.5s".
type jsonDuration time.Duration

func (d jsonDuration) MarshalJSON() ([]byte, error) {
	return json.Marshal(strconv.FormatFloat(time.Duration(d).Seconds(), 'f', -1, 64) + "s")
}

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

// encodeManifest returns the manifest of a snapshot whose data is durable, signed if there is a signer.
func encodeManifest(rec *Record, signer *Signer) ([]byte, error) {
	var backends []string
	for _, l := range rec.Locations {
		backends = append(backends, l.Backend)
	}
	b, err := json.MarshalIndent(manifest{
		FormatVersion:  ManifestVersion,
		Name:           rec.Name,
		Cluster:        rec.Cluster,
		RequestID:      rec.RequestID,
		Backends:       backends,
		Pinned:         rec.Pinned,
		Labels:         rec.Labels,
		Trigger:        "TRIGGER_" + rec.Trigger.String(),
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
		Compression:    "COMPRESSION_" + rec.Compression.String(),
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

// ReadManifest reads the manifest under a key and returns the snapshot that it describes, without state; its locations are
// the names of the backends that were chosen and no more. A manifest that trust does not believe is an [Error] with
// ReasonManifestUntrusted; one that cannot be decoded is an error without a reason.
func ReadManifest(ctx context.Context, b Backend, key string, trust *Trust) (*Record, error) {
	doc, err := readSmall(ctx, b, key)
	if err != nil {
		return nil, err
	}
	if err := trust.verify(doc); err != nil {
		return nil, untrusted(b, key, err)
	}
	return decodeManifest(doc)
}

func untrusted(b Backend, key string, err error) error {
	return &Error{
		Reason: ReasonManifestUntrusted, Backend: b.Name(), Message: fmt.Sprintf("the manifest %s is not trusted", b.URI(key)), Err: err,
		Hint: "use another backend's copy; if it is signed with a key of yours, add that to the trusted keys",
	}
}

// decodeManifest returns the record that a manifest describes, without state; its locations are the names of the backends
// that were chosen and no more.
func decodeManifest(b []byte) (*Record, error) {
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("decode the manifest: %w", err)
	}
	rec := &Record{
		Snapshot: Snapshot{
			Name: m.Name, Cluster: m.Cluster, Labels: m.Labels, Pinned: m.Pinned,
			CreateTime: m.CreateTime.UTC(), Duration: time.Duration(m.Duration), Node: m.Node,
			EtcdVersion: m.EtcdVersion, StorageVersion: m.StorageVersion,
			EtcdClusterID: m.EtcdClusterID, EtcdMemberID: m.EtcdMemberID,
			Revision: m.Revision, TotalKeys: m.TotalKeys, DBSize: m.DBSize, SHA256: m.SHA256, Hash: m.Hash,
			EncryptionRecipients: m.Recipients,
			StoredSize:           m.StoredSize, StoredSHA256: m.StoredSHA256,
		},
		RequestID: m.RequestID,
	}
	for _, name := range m.Backends {
		rec.Locations = append(rec.Locations, Location{Backend: name})
	}
	rec.Trigger = Trigger(indexOf(triggerNames, strings.TrimPrefix(m.Trigger, "TRIGGER_")))
	rec.Compression = Compression(indexOf(compressionNames, strings.TrimPrefix(m.Compression, "COMPRESSION_")))
	return rec, m.check(rec)
}

// check says what a manifest lacks to be one of ours.
func (m *manifest) check(rec *Record) error {
	switch {
	case m.FormatVersion < 1:
		return errors.New("decode the manifest: it has no formatVersion")
	case m.FormatVersion > ManifestVersion:
		return fmt.Errorf("decode the manifest: its format version is %d, and this program reads up to %d; use a newer snapshotd", m.FormatVersion, ManifestVersion)
	case !ValidName(m.Name):
		return fmt.Errorf("decode the manifest: %.100q is not a snapshot's name", m.Name)
	case rec.Compression == CompressionUnspecified:
		return fmt.Errorf("decode the manifest: %.100q is not a compression", m.Compression)
	case m.StoredSize <= 0 || m.DBSize <= 0 || len(m.StoredSHA256) != 64 || len(m.SHA256) != 64:
		return errors.New("decode the manifest: a size or checksum is missing")
	case m.CreateTime.Unix() <= 0:
		return errors.New("decode the manifest: createTime is missing")
	case m.textSize() > maxManifestText:
		return fmt.Errorf("decode the manifest: its texts have more than %d bytes", maxManifestText)
	}
	return nil
}

// textSize returns how many bytes the texts have that become part of the record.
func (m *manifest) textSize() int {
	n := len(m.Name) + len(m.RequestID) + len(m.Node) + len(m.EtcdVersion) + len(m.StorageVersion) + len(m.EtcdClusterID) + len(m.EtcdMemberID)
	for k, v := range m.Labels {
		n += len(k) + len(v)
	}
	for _, r := range m.Recipients {
		n += len(r)
	}
	return n
}

func indexOf(names []string, s string) int {
	for i, n := range names {
		if n == s {
			return i
		}
	}
	return 0
}

// errTooLarge: an object is larger than any manifest or marker.
var errTooLarge = errors.New("is no document of ours")

// readSmall reads an object that is a small document.
func readSmall(ctx context.Context, b Backend, key string) ([]byte, error) {
	r, err := b.Get(ctx, key)
	return readAllSmall(b, key, r, err)
}

// readAllSmall reads what was opened, and closes it.
func readAllSmall(b Backend, key string, r io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return nil, &Error{Reason: ReasonBackendUnavailable, Backend: b.Name(), Message: fmt.Sprintf("backend %q: read %s", b.Name(), key), Err: err, Retry: retryAfter(ReasonBackendUnavailable)}
	}
	if len(data) > maxManifest {
		return nil, fmt.Errorf("backend %q: %s %w: it has more than %d bytes", b.Name(), key, errTooLarge, maxManifest)
	}
	return data, nil
}
