package storage

import "github.com/snapshotd/snapshotd/snapshot"

// swept reports whether what is left of a write to a key is removed: keys that are not ours are left alone.
func swept(key string, opts snapshot.SweepOptions) bool {
	return snapshot.OwnKey(key) && (opts.Keep == nil || !opts.Keep(key))
}
