package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Node-local backends: a directory of its own on each node, in one catalog. Their locations belong to the node by their
// name (snapshot.BackendOn), and [snapshot.Node] knows which of them are elsewhere.

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

// localBackends returns the names of the directories that this node alone has. The leader cannot reach them when it
// runs on another node, so this replica does for them all that a leader does.
func (c *Cluster) localBackends() []string {
	return slices.DeleteFunc(c.BackendNames(), func(b string) bool { return snapshot.NodeOf(b) == "" })
}

// HasLocal reports whether there are directories that this node alone has: then its replica works also while another
// one leads.
func (c *Cluster) HasLocal() bool { return len(c.localBackends()) > 0 }

// MaintainLocal is [Cluster.Maintain] for the directories that this node alone has. The leader cannot see them.
func (c *Cluster) MaintainLocal(ctx context.Context) error { return c.maintain(ctx, c.localBackends()) }

// RepairLocal is [Cluster.Repair] for the copies that the leader cannot make: those that are missing in this node's own
// directories, and those of snapshots that only directories like these hold.
func (c *Cluster) RepairLocal(ctx context.Context) (next time.Time, err error) {
	return c.repairDue(ctx, func(m missing) bool {
		return !m.fallback && !m.distant && (local(m.repo) || !m.shared)
	})
}

// ScrubLocal verifies a share of the copies in this node's own directories. Each of them is read alone: the leader
// scrubs the backends that it can reach.
func (c *Cluster) ScrubLocal(ctx context.Context, s Scrub) error {
	var errs []error
	for _, backend := range c.localBackends() {
		errs = append(errs, c.scrub(ctx, Scrub{Share: s.Share}, backend))
	}
	return errors.Join(errs...)
}

// catchUp writes the manifest in this node's own directory anew after another replica has changed labels or pin. The
// record alone is no reason to, because the catalog is no witness. The manifest on a shared backend is one. Without it
// the manifest here stays as it is until this replica is asked for the same update.
func (x *comparison) catchUp(ctx context.Context, v *view, rec *snapshot.Record) {
	if !rec.Outdated(v.repo.Name()) || x.validateOnly {
		return
	}
	m, err := v.repo.ReadManifest(ctx, rec.Name)
	if err == nil && m.Record.Generation >= rec.Generation {
		rec.SetOutdated(v.repo.Name(), false)
		return
	}
	for _, src := range x.c.repos {
		if l := rec.Location(src.Name()); err != nil || local(src) || l == nil || l.State != snapshot.StateReady {
			continue
		}
		doc, cerr := src.CheckManifest(ctx, rec)
		if cerr != nil {
			x.c.log.WarnContext(ctx, "manifest not brought up to date", "snapshot", rec.Name, "backend", v.repo.Name(),
				"from", src.Name(), "error", cerr)
			continue
		}
		if err = v.repo.PutManifest(ctx, rec.Name, doc); err == nil {
			rec.SetOutdated(v.repo.Name(), false)
			return
		}
	}
	if err != nil {
		x.failObject(v, err)
	}
}

// retirable returns why nodes cannot be retired.
func (c *Cluster) retirable(ctx context.Context, nodes []string) error {
	if len(nodes) == 0 {
		return nil
	}
	if slices.Contains(nodes, "") {
		return snapshot.Invalid("retire_nodes", "has an empty name; give the names of nodes that are gone")
	}
	if slices.Contains(nodes, c.cfg.Node) {
		return snapshot.Invalid("retire_nodes",
			"%s is the node of this very replica; a directory that was lost is configured under a new "+
				"backend name, or its node is retired by another replica", c.cfg.Node)
	}
	owner, err := c.cfg.Saves.LockOwner(ctx)
	if err != nil {
		return err
	}
	if node, _, _ := strings.Cut(owner, "/"); slices.Contains(nodes, node) {
		return snapshot.SaveInProgress(c.cfg.Name, "and by node "+node+", which is to be retired: it is alive")
	}
	return nil
}

// retire forgets the locations of a record in the directories of nodes that are gone for ever, and their upload
// fallbacks.
func (r *reconciliation) retire(ctx context.Context, rec *snapshot.Record, e *effect) {
	node := rec.FallbackNode()
	locations, lost := rec.Retire(r.req.Retire)
	if lost {
		r.c.log.WarnContext(ctx, "upload fallback on a retired node is given up: nothing is left of the snapshot",
			"snapshot", rec.Name, "node", node, "validate_only", r.req.ValidateOnly)
	}
	for _, l := range locations {
		e.retired = append(e.retired, l.Backend)
		r.c.log.WarnContext(ctx, "location on a retired node is forgotten", "snapshot", rec.Name, "backend", l.Backend,
			"state", l.State.String(), "uri", l.URI, "validate_only", r.req.ValidateOnly)
	}
}

// forgetStores lets directories of retired nodes begin anew: a node that comes back under its name may have an empty
// one. It returns the numbers of forgotten locations, by backend.
func (r *reconciliation) forgetStores(ctx context.Context) (reports []BackendReport) {
	for _, repo := range r.c.repos {
		configured, isLocal := snapshot.Configured(repo.Name())
		for _, node := range r.req.Retire {
			// The zero makes an entry. A node that had lost all its copies must be able to begin anew, too.
			if name := snapshot.BackendOn(configured, node); isLocal && r.retired[name] == 0 {
				r.retired[name] = 0
			}
		}
	}
	for _, backend := range slices.Sorted(maps.Keys(r.retired)) {
		report := BackendReport{Cluster: r.c.cfg.Name, Backend: backend, Removed: r.retired[backend]}
		if !r.req.ValidateOnly {
			report.Err = r.c.forgetStore(ctx, backend)
		}
		reports = append(reports, report)
	}
	return reports
}

// forgetStore makes the catalog forget that a store was initialized. Its id stays, so that the same directory is
// recognized when it comes back.
func (c *Cluster) forgetStore(ctx context.Context, backend string) error {
	store, err := c.cfg.Stores.Store(ctx, backend)
	if snapshot.IsNotFound(err) {
		return nil
	}
	if err == nil && store.Initialized {
		store.Initialized = false
		err = c.cfg.Stores.PutStore(ctx, backend, store)
	}
	return snapshot.ChangedMeanwhile(err, "forget the store of backend %q", backend)
}
