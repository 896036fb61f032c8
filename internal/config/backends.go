package config

import (
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"

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
		if _, _, err := place(b, ""); err != nil {
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
// its prefix. It also returns the directory of such a place, if it is one.
func place(b Backend, prefix string) (where, dir string, err error) {
	backend, err := storage.New(storage.Config{Name: b.Name, URL: b.URL.Reveal()})
	if err != nil {
		return "", "", err
	}
	const any = "snapshot"
	info := backend.Info()
	where = info.URI(prefix + any)
	if u, err := url.Parse(where); err == nil && info.Kind == snapshot.BackendLocal {
		dir := path.Dir(u.Path)
		return directory(dir), dir, nil
	}
	if u, err := url.Parse(b.URL.Reveal()); err == nil {
		where += "\n" + strings.ToLower(strings.TrimRight(u.Query().Get("endpoint"), "/"))
	}
	return where, "", nil
}

// apart checks that no two backends, of one cluster or of several, keep snapshots in the same place, and that none does
// among the service's own files.
func (v validator) apart() {
	type user struct{ cluster, backend string }
	users, own := map[string]user{}, v.ownDirectories()
	v.auditApart(own)
	for i, c := range v.Clusters {
		for j, b := range c.Backends {
			where, dir, err := place(b, *c.Prefix)
			if err != nil {
				continue // it is a problem already
			}
			at := fmt.Sprintf("clusters[%d].backends[%d].url", i, j)
			first, taken := users[where]
			in := own.with(dir)
			switch {
			case in != "":
				v.problem(at, "backend %q of cluster %q is in %s, %s; give it another URL or its cluster another prefix",
					b.Name, c.Name, in, whyOwn)
			case taken:
				v.problem(at, "backend %q of cluster %q is the same place as backend %q of cluster %q; give one of them another "+
					"URL or its cluster another prefix", b.Name, c.Name, first.backend, first.cluster)
			default:
				users[where] = user{c.Name, b.Name}
			}
		}
	}
}

// auditApart checks that the audit records are not among the service's own files.
func (v validator) auditApart(own ownDirectories) {
	if _, dir, err := place(Backend{Name: "audit", URL: v.AuditURL}, ""); err == nil && own.with(dir) != "" {
		v.problem("audit_url", "it is in %s, %s; give another URL", own.with(dir), whyOwn)
	}
	if v.AuditFile == "" {
		return
	}
	if file, err := filepath.Abs(v.AuditFile); err == nil && own.with(path.Dir(file)) != "" {
		v.problem("audit_file", "it is in %s, %s; give another file", own.with(path.Dir(file)), whyOwn)
	}
}
