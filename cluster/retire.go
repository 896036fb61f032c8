package cluster

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/snapshotd/snapshotd/snapshot"
)

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
