package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Node-local backends: a directory of its own on each node, in one catalog. Their locations belong to the node by their
// name (snapshot.BackendOn), and [snapshot.Node] knows which of them are elsewhere.

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
