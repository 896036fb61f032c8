package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"

	"github.com/snapshotd/snapshotd/internal/cli/exit"
	agekey "github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// clusterName returns the name of the cluster whose snapshots are read with --from.
func clusterName(fs *pflag.FlagSet) string {
	cluster, _ := fs.GetString("cluster")
	return cmp.Or(cluster, config.DefaultClusterName)
}

// clusterPrefix returns the prefix of the cluster's keys there: that of --prefix, or else its name and '/'.
func clusterPrefix(fs *pflag.FlagSet) string {
	if fs.Changed("prefix") {
		prefix, _ := fs.GetString("prefix")
		return prefix
	}
	return clusterName(fs) + "/"
}

// signedFor returns the cluster that signed manifests must belong to: the one that was given, or that the prefix is
// made of. A prefix alone says nothing about it.
func signedFor(fs *pflag.FlagSet) string {
	if fs.Changed("prefix") && !fs.Changed("cluster") {
		return ""
	}
	return clusterName(fs)
}

// localError gives an error of this process the form of an error of the service, and so its exit code.
func localError(err error) error {
	st := wire.Status(err, "", nil)
	switch {
	case st.Code() == codes.DataLoss:
		return exit.Damaged(errors.New(st.Message()))
	case wire.DetailsOf(st.Err()).Reason == snapshot.ReasonInternal:
		return err
	}
	return st.Err()
}

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
		return nil, exit.Usagef("--prefix, --cluster: %q is no prefix of keys; it is empty, or names that each end with '/'",
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
			return nil, exit.Usagef("--from: %w", err)
		}
		cfg := repository.Config{Backend: b, Prefix: p.prefix, Trust: trust}
		if trust != nil {
			cfg.Cluster = p.cluster // without keys, anyone who can write there can write another name
		}
		repos = append(repos, repository.New(cfg))
	}
	return repos, nil
}

// maxFolders bounds the folders that are looked at for snapshots of a cluster.
const maxFolders = 100

// clusters returns the names of the clusters whose snapshots the first readable URL holds, and whether it holds some
// that are in no folder. It looks at folders that are one level deep.
func (p place) clusters(ctx context.Context) (names []string, top bool) {
	for _, url := range p.urls {
		b, err := storage.New(storage.Config{Name: storage.NameOf(url), URL: url})
		if err != nil {
			continue
		}
		folders, err := b.Folders(ctx, maxFolders)
		if err != nil {
			continue
		}
		for _, folder := range folders {
			if snapshot.ValidName(folder) && holdsAny(ctx, repository.New(repository.Config{Backend: b, Prefix: folder + "/"})) {
				names = append(names, folder)
			}
		}
		return names, holdsAny(ctx, repository.New(repository.Config{Backend: b}))
	}
	return nil, false
}

// holdsAny reports whether a repository holds a snapshot, by its listing alone.
func holdsAny(ctx context.Context, repo *repository.Repository) bool {
	entries, err := repo.Entries(ctx)
	return err == nil && len(entries) > 0
}

// others says which clusters the URLs hold, where a snapshot was not found.
func (p place) others(ctx context.Context) string {
	names, top := p.clusters(ctx)
	names = slices.DeleteFunc(names, func(name string) bool { return name+"/" == p.prefix })
	text := ""
	if len(names) > 0 {
		text = "there are snapshots of " + strings.Join(names, ", ") + ": choose with --cluster"
	}
	if top && p.prefix != "" {
		if text != "" {
			text += "; "
		}
		text += "there are snapshots outside of any cluster's folder: --prefix ''"
	}
	return cmp.Or(text, "--cluster names the cluster, --prefix says where its snapshots lie")
}

// notFound adds to the error that a snapshot was not found which clusters the place holds.
func (p place) notFound(ctx context.Context, err error) error {
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Reason != snapshot.ReasonSnapshotNotFound {
		return localError(err)
	}
	return exit.NotFound(e.Message + "; list --from shows the snapshots; " + p.others(ctx))
}

// trustOf returns the trust in the keys of some files; nil, which trusts all manifests, when there are none.
func trustOf(files []string) (*signing.Trust, error) {
	if len(files) == 0 {
		return nil, nil
	}
	trust := signing.NewTrust(false)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			err = trust.Add(text)
		}
		if err != nil {
			return nil, exit.Usagef("--signing-public-key-file: %s: %w", file, err)
		}
	}
	return trust, nil
}

// readIdentities reads the files with the private keys of encrypted snapshots.
func readIdentities(files []string) (agekey.Identities, error) {
	all, err := agekey.ReadIdentities(files...)
	if err != nil {
		return all, exit.Usagef("--identity: %w", err)
	}
	return all, nil
}
