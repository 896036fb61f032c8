package snapshot

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// DefaultClusterName is the name of a cluster that was given none.
const DefaultClusterName = "default"

// OnDemandPrefix begins the name of a snapshot that a caller asked for, as in K3s.
const OnDemandPrefix = "on-demand"

// Limits of names and labels. They keep a record far below etcd's 1.5 MiB and a name below the limits of file systems.
const (
	MaxNamePrefix = 100
	MaxLabels     = 64
	MaxLabelKey   = 63
	MaxLabelValue = 255
	MaxRequestID  = 128
)

// Suffixes of the objects of a snapshot, after the cluster's prefix and the snapshot's name.
const (
	DataSuffix      = ".db"
	zstdSuffix      = ".db.zst"
	encryptedSuffix = ".age" // after one of the others
	ManifestSuffix  = ".json"
	ZipSuffix       = ".zip" // of K3s and RKE2
	orderSuffix     = ".~"   // no object has it; it sorts behind all of the others
)

// MarkerKey is the key of the marker that makes a directory or bucket prefix a store of snapshotd.
const MarkerKey = "snapshotd-store.json"

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// ValidName reports whether s can be part of a snapshot's name: letters, digits, '.', '_' and '-', no dot or dash
// first.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// ValidateLabels returns an [Error] with ReasonInvalidArgument when labels are too many or too long.
func ValidateLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return Invalid("labels", "there are %d; up to %d are allowed", len(labels), MaxLabels)
	}
	for k, v := range labels {
		if k == "" || len(k) > MaxLabelKey {
			return Invalid("labels", "key %.80q has %d bytes; 1 to %d are allowed", k, len(k), MaxLabelKey)
		}
		if len(v) > MaxLabelValue {
			return Invalid("labels", "the value of %q has %d bytes; up to %d are allowed", k, len(v), MaxLabelValue)
		}
	}
	return nil
}

// ManifestKey returns the key of a snapshot's manifest, below the cluster's prefix.
func ManifestKey(name string) string { return name + ManifestSuffix }

// ownDataKey returns the key of the data of a snapshot that this program saved.
func (s *Snapshot) ownDataKey() string {
	key := s.Name + zstdSuffix
	if s.Compression == CompressionNone {
		key = s.Name + DataSuffix
	}
	if s.Encrypted() {
		key += encryptedSuffix
	}
	return key
}

// DataKey returns the key of a snapshot's data, below the cluster's prefix. An adopted file keeps its name. The data of
// a save has the key of the save's name, also when its record names another file.
func (r *Record) DataKey() string {
	if r.File != "" && r.Trigger == TriggerAdopted {
		return r.File
	}
	return r.ownDataKey()
}

// MayBeForeign reports whether another program can have written the data of a record that claims to be of a save. No
// save gives such a name. Only this program compresses or encrypts as it does, and this data is neither.
func (r *Record) MayBeForeign() bool {
	return !NamedLikeSaves(r.Name) && r.DataKey() == r.Name+DataSuffix
}

// OrderKey returns a snapshot's place in a listing: behind the last key that an object of its name can have. Listings
// of backends and scans of the catalog are merged in the order of these keys, because names themselves sort in another
// order ("a" before "a-1", but "a-1.db" before "a.db"), and so do the keys of one kind of object ("a.zip" behind
// "a.k.json").
func OrderKey(name string) string { return name + orderSuffix }

// NameOfOrderKey returns the name that [OrderKey] was given.
func NameOfOrderKey(key string) string { return strings.TrimSuffix(key, orderSuffix) }

// SplitKey returns the snapshot's name and the suffix of an object that this program writes; ok is false for other
// keys.
func SplitKey(key string) (name, suffix string, ok bool) {
	for _, s := range []string{
		zstdSuffix + encryptedSuffix, DataSuffix + encryptedSuffix, zstdSuffix, DataSuffix, ManifestSuffix,
	} {
		if name, ok := strings.CutSuffix(key, s); ok && name != "" {
			return name, s, true
		}
	}
	return "", "", false
}

// OwnKey reports whether a key is of an object that this program writes.
func OwnKey(key string) bool {
	_, _, ok := SplitKey(key)
	return ok
}

// k3sName is the form of names in K3s and RKE2: <name>-<node>-<unix seconds>.
var k3sName = regexp.MustCompile(`^(.+)-([0-9]{9,11})$`)

// NamedLikeSaves reports whether a name has the form that saves give it: <name prefix>-<node>-<unix seconds>.
func NamedLikeSaves(name string) bool { return k3sName.MatchString(name) }

// ObjectName returns the name of the snapshot that an object belongs to, one of ours or one of another program; ok is
// false when the key is not that of a snapshot.
func ObjectName(key string) (name, suffix string, ok bool) {
	if name, suffix, ok := SplitKey(key); ok {
		return name, suffix, true
	}
	name, zipped := strings.CutSuffix(key, ZipSuffix)
	if zipped {
		suffix = ZipSuffix
	}
	return name, suffix, ValidName(name) && k3sName.MatchString(name)
}

// FileOf reports whether a key below the cluster's prefix is of another program's snapshot of this name: one of the
// names that such files have, and neither data nor manifest of another snapshot.
func FileOf(name, key string) bool {
	of, suffix, ok := ObjectName(key)
	return ok && of == name && ValidName(name) && (suffix == "" || suffix == ZipSuffix || suffix == DataSuffix)
}

// Origin returns when and where a snapshot was taken, as far as its name says so in the form of K3s; otherwise the time
// is that of the last write.
func Origin(name string, modTime time.Time) (created time.Time, node string) {
	m := k3sName.FindStringSubmatch(name)
	if m == nil {
		return modTime.UTC(), ""
	}
	unix, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil {
		return modTime.UTC(), ""
	}
	for _, prefix := range []string{"etcd-snapshot-", OnDemandPrefix + "-"} {
		if n, ok := strings.CutPrefix(m[1], prefix); ok {
			node = n
		}
	}
	return time.Unix(unix, 0).UTC(), node
}

// CompressionOf returns how another program's file is compressed, by its name.
func CompressionOf(file string) Compression {
	if strings.HasSuffix(file, ZipSuffix) {
		return CompressionZip
	}
	return CompressionNone
}
