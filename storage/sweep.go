package storage

import (
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/snapshot"
)

// suffixes are those of the keys that the service writes.
var suffixes = []string{".db", ".db.zst", ".json"}

// swept reports whether what is left of a write to a key is removed: keys that are not ours are left alone.
func swept(key string, opts snapshot.SweepOptions) bool {
	ours := slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(key, s) })
	return ours && (opts.Keep == nil || !opts.Keep(key))
}
