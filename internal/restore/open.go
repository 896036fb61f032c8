package restore

import (
	"fmt"
	"os"
	"path"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// Shelves opens the backends at URLs, as a configuration has them, and returns what to read of them. With keys, the files of
// public keys, only manifests that are signed with one of these are believed, and, unless cluster is empty, are of that one.
func Shelves(urls []string, prefix, cluster string, keys []string) ([]*snapshot.Shelf, error) {
	if prefix != "" && path.Clean("/"+prefix)+"/" != "/"+prefix {
		return nil, fmt.Errorf("--prefix, --cluster: %q is no prefix of keys; it is empty, or names that each end with '/'", prefix)
	}
	var trust *snapshot.Trust
	if len(keys) > 0 {
		trust = snapshot.NewTrust(false)
	}
	for _, file := range keys {
		text, err := os.ReadFile(file)
		if err == nil {
			err = trust.Add(text)
		}
		if err != nil {
			return nil, fmt.Errorf("--signing-public-key-file: %s: %w", file, err)
		}
	}
	var shelves []*snapshot.Shelf
	for _, url := range urls {
		b, err := storage.New(storage.Config{Name: storage.NameOf(url), URL: url})
		if err != nil {
			return nil, fmt.Errorf("--from: %w", err)
		}
		shelves = append(shelves, &snapshot.Shelf{Backend: b, Prefix: prefix, Trust: trust, Cluster: cluster})
	}
	return shelves, nil
}

// Identities reads the files with the private keys of encrypted snapshots.
func Identities(files []string) (age.Identities, error) {
	all, err := age.ReadIdentities(files...)
	if err != nil {
		return all, fmt.Errorf("--identity: %w", err)
	}
	return all, nil
}
