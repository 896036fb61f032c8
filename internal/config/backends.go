package config

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"syscall"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

func (v validator) backends(c *Cluster, at string) {
	seen := map[string]int{}
	for i, b := range c.Backends {
		here := fmt.Sprintf("%s[%d]", at, i)
		v.name(here+".name", b.Name)
		if first, twice := seen[b.Name]; twice {
			v.problem(here+".name", "%q is the name of backends[%d] already", b.Name, first)
		} else {
			seen[b.Name] = i
		}
		if b.Retention != nil {
			v.retention(*b.Retention, here+".retention")
		}
		if _, err := place(b, ""); err != nil {
			v.problem(here+".url", "%v", err)
		}
		if b.NodeLocal && !strings.HasPrefix(b.URL.Reveal(), "file:") {
			v.problem(here+".node_local",
				"%q is no directory (file://), and node_local is for directories: all replicas reach a bucket", b.Name)
		}
	}
}

// place returns a text that is the same for two places where a cluster's keys would meet: clusters in one place would
// overwrite and forget each other's snapshots. A place below another one is safe, because a listing goes no deeper than
// its prefix.
func place(b Backend, prefix string) (string, error) {
	backend, err := storage.New(storage.Config{Name: b.Name, URL: b.URL.Reveal()})
	if err != nil {
		return "", err
	}
	const any = "snapshot"
	info := backend.Info()
	where := info.URI(prefix + any)
	if u, err := url.Parse(where); err == nil && info.Kind == snapshot.BackendLocal {
		return directory(path.Dir(u.Path)), nil
	}
	if u, err := url.Parse(b.URL.Reveal()); err == nil {
		where += "\n" + strings.ToLower(strings.TrimRight(u.Query().Get("endpoint"), "/"))
	}
	return where, nil
}

// directory returns a text that is the same for one directory under all of its names: two mounts or links may lead to
// it. The part of a path that does not exist yet keeps its names below the part that does.
func directory(dir string) string {
	var info syscall.Stat_t
	if err := syscall.Stat(dir, &info); err != nil && dir != path.Dir(dir) {
		return directory(path.Dir(dir)) + "/" + path.Base(dir)
	}
	return fmt.Sprintf("%d:%d", info.Dev, info.Ino)
}

// apart checks that no two backends, of one cluster or of several, keep snapshots in the same place.
func (v validator) apart() {
	type user struct{ cluster, backend string }
	users := map[string]user{}
	for i, c := range v.Clusters {
		for j, b := range c.Backends {
			where, err := place(b, *c.Prefix)
			if err != nil {
				continue // it is a problem already
			}
			first, taken := users[where]
			if !taken {
				users[where] = user{c.Name, b.Name}
				continue
			}
			v.problem(fmt.Sprintf("clusters[%d].backends[%d].url", i, j),
				"backend %q of cluster %q is the same place as backend %q of cluster %q; give one of them another URL or its "+
					"cluster another prefix",
				b.Name, c.Name, first.backend, first.cluster)
		}
	}
}
