package cluster

import (
	"slices"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// BackendNames returns the names of the cluster's backends in the order of the configuration.
func (c *Cluster) BackendNames() []string { return namesOf(c.repos) }

// namesOf returns the names of the backends of some repositories.
func namesOf(repos []*repository.Repository) []string {
	names := make([]string, len(repos))
	for i, r := range repos {
		names[i] = r.Name()
	}
	return names
}

// repo returns the repository on the configured backend of a name, or nil.
func (c *Cluster) repo(backend string) *repository.Repository {
	for _, r := range c.repos {
		if r.Name() == backend {
			return r
		}
	}
	return nil
}

// local reports whether a backend is a directory that this node alone has.
func local(r *repository.Repository) bool { return snapshot.NodeOf(r.Name()) != "" }

// named returns the name of the backend that a request means. The configured name of a node-local backend means the
// directory of the replica that is asked.
func (c *Cluster) named(field, given string) (string, error) {
	for _, r := range c.repos {
		if snapshot.IsBackend(r.Name(), given) {
			return r.Name(), nil
		}
	}
	if c.node.Elsewhere(given) {
		return "", c.node.OnOther([]string{given}, "backend %q", given)
	}
	return "", c.noBackend(field, given)
}

// configured reports whether a caller has given the name of a backend: that of a directory of another node, too.
func (c *Cluster) configured(given string) bool {
	name, _ := snapshot.Configured(given)
	return slices.ContainsFunc(c.repos, func(r *repository.Repository) bool {
		return snapshot.IsBackend(r.Name(), given) || local(r) && snapshot.IsBackend(r.Name(), name)
	})
}

// choose returns the repositories on the named backends in the order of the configuration, all when names is empty.
// The order decides which copy is read first, and which error a save returns.
func (c *Cluster) choose(names []string) ([]*repository.Repository, error) {
	if len(names) == 0 {
		return c.repos, nil
	}
	for _, n := range names {
		if _, err := c.named("backends", n); err != nil {
			return nil, err
		}
	}
	var chosen []*repository.Repository
	for _, r := range c.repos {
		if slices.ContainsFunc(names, func(n string) bool { return snapshot.IsBackend(r.Name(), n) }) {
			chosen = append(chosen, r)
		}
	}
	return chosen, nil
}

// noBackend is the error for a field that names a backend which is not configured.
func (c *Cluster) noBackend(field, name string) error {
	return snapshot.Invalid(field, "cluster %q has no backend %q; it has %s", c.cfg.Name, name,
		snapshot.Join(c.BackendNames()))
}
