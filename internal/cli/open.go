package cli

import (
	"os"
	"path"

	agekey "github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage"
)

// place says which snapshots to read without a service.
type place struct {
	urls    []string // of backends, as in the configuration
	prefix  string   // of the cluster's keys
	cluster string   // to which signed manifests must belong; empty for any
	keys    []string // files of public keys; without any, all manifests are trusted
}

// open returns the repositories of a place, in the order of its URLs. Nothing is read from them yet. With keys, only
// those manifests are trusted that are signed with one of them and, unless cluster is empty, belong to the cluster.
func (p place) open() ([]*repository.Repository, error) {
	if p.prefix != "" && path.Clean("/"+p.prefix)+"/" != "/"+p.prefix {
		return nil, usagef("--prefix, --cluster: %q is no prefix of keys; it is empty, or names that each end with '/'",
			p.prefix)
	}
	trust, err := trustOf(p.keys)
	if err != nil {
		return nil, err
	}
	var repos []*repository.Repository
	for _, url := range p.urls {
		b, err := storage.New(storage.Config{Name: storage.NameOf(url), URL: url})
		if err != nil {
			return nil, usagef("--from: %w", err)
		}
		cfg := repository.Config{Backend: b, Prefix: p.prefix, Trust: trust}
		if trust != nil {
			cfg.Cluster = p.cluster // without keys, anyone who can write there can write another name
		}
		repos = append(repos, repository.New(cfg))
	}
	return repos, nil
}

// trustOf returns the trust in the keys of some files; nil, which trusts all manifests, when there are none.
func trustOf(files []string) (*repository.Trust, error) {
	if len(files) == 0 {
		return nil, nil
	}
	trust := repository.NewTrust(false)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			err = trust.Add(text)
		}
		if err != nil {
			return nil, usagef("--signing-public-key-file: %s: %w", file, err)
		}
	}
	return trust, nil
}

// readIdentities reads the files with the private keys of encrypted snapshots.
func readIdentities(files []string) (agekey.Identities, error) {
	all, err := agekey.ReadIdentities(files...)
	if err != nil {
		return all, usagef("--identity: %w", err)
	}
	return all, nil
}
