package snapshot

import (
	"regexp"
	"strings"
)

// Suffixes of the objects of a snapshot, after the cluster's prefix and the snapshot's name.
const (
	dataSuffix     = ".db"
	zstdSuffix     = ".db.zst"
	sealedSuffix   = ".age" // after one of the others
	manifestSuffix = ".json"
	zipSuffix      = ".zip" // of K3s and RKE2
	orderSuffix    = ".~"   // of no object; sorts behind all of the others
)

// MarkerKey is the key of the marker that makes a directory or bucket prefix a store of snapshotd.
const MarkerKey = "snapshotd-store.json"

// ManifestKey returns the key of a snapshot's manifest, below the cluster's prefix.
func ManifestKey(name string) string { return name + manifestSuffix }

// OrderKey returns a snapshot's place in a listing: behind the last key that an object of its name can have. Listings of
// backends and scans of the catalog are merged in the order of these keys: names themselves sort otherwise ("a" before
// "a-1", but "a-1.db" before "a.db"), and so do the keys of one kind of object ("a.zip" behind "a.k.json").
func OrderKey(name string) string { return name + orderSuffix }

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

// DataKey returns the key of a snapshot's data, below the cluster's prefix: that of an adopted one is as it was found.
func (r *Record) DataKey() string {
	if r.File != "" {
		return r.File
	}
	return r.Snapshot.DataKey()
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

// OwnKey reports whether a key is of an object that this program writes.
func OwnKey(key string) bool {
	_, _, ok := splitKey(key)
	return ok
}

// k3sName is how K3s and RKE2 name their files: <name>-<node>-<unix seconds>.
var k3sName = regexp.MustCompile(`^(.+)-([0-9]{9,11})$`)

// objectName returns the name of the snapshot that an object belongs to, be it ours or one that another program has put
// there; ok is false for what is no snapshot by its key.
func objectName(key string) (name, suffix string, ok bool) {
	if name, suffix, ok := splitKey(key); ok {
		return name, suffix, true
	}
	name, zipped := strings.CutSuffix(key, zipSuffix)
	if zipped {
		suffix = zipSuffix
	}
	return name, suffix, ValidName(name) && k3sName.MatchString(name)
}
