// Package from opens the places that --from names, and reads snapshots there without a service.
package from

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
	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/signing"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// AddPrefix defines the flag --prefix. Its usage begins with lead.
func AddPrefix(fs *pflag.FlagSet, lead string) {
	fs.String("prefix", "",
		lead+"`prefix` of the cluster's keys there, empty for none (default the cluster's name and '/')")
}

// Place says which snapshots to read without a service.
type Place struct {
	URLs    []string // of backends, as in the configuration
	Prefix  string   // of the cluster's keys
	Cluster string   // to which signed manifests must belong; empty for any
	Keys    []string // files of public keys; without any, all manifests are trusted
}

// Of returns the place of some URLs that the flags --cluster and --prefix choose. Keys are files of public keys.
func Of(fs *pflag.FlagSet, urls, keys []string) Place {
	cluster, _ := fs.GetString("cluster")
	cluster = cmp.Or(cluster, snapshot.DefaultClusterName)
	p := Place{URLs: urls, Prefix: cluster + "/", Cluster: cluster, Keys: keys}
	if fs.Changed("prefix") {
		p.Prefix, _ = fs.GetString("prefix")
		if !fs.Changed("cluster") {
			p.Cluster = "" // a prefix alone says nothing about it
		}
	}
	return p
}

// Open returns the repositories of a place, in the order of its URLs. Nothing is read from them yet. With keys, only
// those manifests are trusted that are signed with one of them and, unless cluster is empty, belong to the cluster.
func (p Place) Open() ([]*repository.Repository, error) {
	if p.Prefix != "" && path.Clean("/"+p.Prefix)+"/" != "/"+p.Prefix {
		return nil, exit.Usagef("--prefix, --cluster: %q is no prefix of keys; it is empty, or names that each end with '/'",
			p.Prefix)
	}
	trust, err := trustOf(p.Keys)
	if err != nil {
		return nil, err
	}
	var repos []*repository.Repository
	for _, url := range p.URLs {
		b, err := storage.New(storage.Config{Name: storage.NameOf(url), URL: url})
		if err != nil {
			return nil, exit.Usagef("--from: %w", err)
		}
		cfg := repository.Config{Backend: b, Prefix: p.Prefix, Trust: trust}
		if trust != nil {
			cfg.Cluster = p.Cluster // without keys, anyone who can write there can write another name
		}
		repos = append(repos, repository.New(cfg))
	}
	return repos, nil
}

// maxFolders bounds the folders that are looked at for snapshots of a cluster.
const maxFolders = 100

// Clusters returns the names of the clusters whose snapshots the first readable URL holds, and whether it holds some
// that are in no folder. It looks at folders that are one level deep.
func (p Place) Clusters(ctx context.Context) (names []string, top bool) {
	for _, url := range p.URLs {
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

// Others says which clusters the URLs hold, where a snapshot was not found.
func (p Place) Others(ctx context.Context) string {
	names, top := p.Clusters(ctx)
	if own := strings.TrimSuffix(p.Prefix, "/"); slices.Contains(names, own) {
		return "there are others of " + own
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name+"/" == p.Prefix })
	text := ""
	if len(names) > 0 {
		text = "there are snapshots of " + strings.Join(names, ", ") + ": choose with --cluster"
	}
	if top && p.Prefix != "" {
		if text != "" {
			text += "; "
		}
		text += "there are snapshots outside of any cluster's folder: --prefix ''"
	}
	return cmp.Or(text, "--cluster names the cluster, --prefix says where its snapshots lie")
}

// Explain gives an error of reading the place the form of an error of the service, and so its exit code. One that says
// that a snapshot was not found also says which clusters the place holds.
func (p Place) Explain(ctx context.Context, err error) error {
	e, ok := errors.AsType[*snapshot.Error](err)
	if ok && e.Reason == snapshot.ReasonSnapshotNotFound {
		return exit.NotFound(e.Message + "; list --from shows the snapshots; " + p.Others(ctx))
	}
	st := wire.Status(err, "", nil)
	switch {
	case st.Code() == codes.DataLoss:
		return exit.Damaged(errors.New(st.Message()))
	case wire.DetailsOf(st.Err()).Reason == snapshot.ReasonInternal:
		return err
	}
	return st.Err()
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

// Identities reads the files with the private keys of encrypted snapshots.
func Identities(files []string) (agekey.Identities, error) {
	all, err := agekey.ReadIdentities(files...)
	if err != nil {
		return all, exit.Usagef("--identity: %w", err)
	}
	return all, nil
}
