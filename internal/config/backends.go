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
	}
}

// place returns what tells the keys of a cluster on a backend from all others: two that are equal would overwrite and
// forget each other's snapshots. Below one another is no harm, listings do not go deeper than their prefix.
func place(b Backend, prefix string) (string, error) {
	backend, err := storage.New(storage.Config{Name: b.Name, URL: b.URL.Reveal()})
	if err != nil {
		return "", err
	}
	const any = "snapshot"
	where := backend.URI(prefix + any)
	if u, err := url.Parse(where); err == nil && backend.Kind() == snapshot.BackendLocal {
		return directory(path.Dir(u.Path)), nil
	}
	if u, err := url.Parse(b.URL.Reveal()); err == nil {
		where += "\n" + strings.ToLower(strings.TrimRight(u.Query().Get("endpoint"), "/"))
	}
	return where, nil
}

// directory returns what tells a directory from all others, however it is called: two mounts or links may lead to one. What of
// it does not exist yet is called as it is below what does.
func directory(dir string) string {
	var info syscall.Stat_t
	if err := syscall.Stat(dir, &info); err != nil && dir != path.Dir(dir) {
		return directory(path.Dir(dir)) + "/" + path.Base(dir)
	}
	return fmt.Sprintf("%d:%d", info.Dev, info.Ino)
}

// apart checks that no two backends keep the snapshots of a cluster, or of two, in the same place.
func (v validator) apart() {
	type user struct{ cluster, backend string }
	users := map[string]user{}
	for i, c := range v.Clusters {
		for j, b := range c.Backends {
			where, err := place(b, *c.Prefix)
			if err != nil {
				continue // told already
			}
			first, taken := users[where]
			if !taken {
				users[where] = user{c.Name, b.Name}
				continue
			}
			v.problem(fmt.Sprintf("clusters[%d].backends[%d].url", i, j),
				"backend %q of cluster %q is the same place as backend %q of cluster %q; give one of them another URL or its cluster another prefix",
				b.Name, c.Name, first.backend, first.cluster)
		}
	}
}
