package snapshot

import "strings"

// Suffixes of the objects of a snapshot, after the cluster's prefix and the snapshot's name.
const (
	dataSuffix     = ".db"
	zstdSuffix     = ".db.zst"
	sealedSuffix   = ".age" // after one of the others
	manifestSuffix = ".json"
)

// MarkerKey is the key of the marker that makes a directory or bucket prefix a store of snapshotd.
const MarkerKey = "snapshotd-store.json"

// ManifestKey returns the key of a snapshot's manifest, below the cluster's prefix. Listings of backends and scans of the
// catalog are both in the order of these keys: names themselves sort otherwise ("a" before "a-1", but "a-1.json" before
// "a.json").
func ManifestKey(name string) string { return name + manifestSuffix }

// DataKey returns the key of a snapshot's data, below the cluster's prefix.
func (s *Snapshot) DataKey() string {
	key := s.Name + zstdSuffix
	if s.Compression == CompressionNone {
		key = s.Name + dataSuffix
	}
	if s.Sealed() {
		key += sealedSuffix
	}
	return key
}

// Sealed reports whether the snapshot's object is encrypted.
func (s *Snapshot) Sealed() bool { return len(s.EncryptionRecipients) > 0 }

// splitKey returns the snapshot's name and the suffix of one of its objects' keys; ok is false for any other key.
func splitKey(key string) (name, suffix string, ok bool) {
	for _, s := range []string{zstdSuffix + sealedSuffix, dataSuffix + sealedSuffix, zstdSuffix, dataSuffix, manifestSuffix} {
		if name, ok := strings.CutSuffix(key, s); ok && name != "" {
			return name, s, true
		}
	}
	return "", "", false
}
