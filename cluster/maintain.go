package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Maintain is the regular work of the leader of a cluster. It reconciles first, because retention counts copies by the
// catalog. Then it prunes the backends that were reconciled: one that is down does not keep the others from being
// pruned. The error joins the failures of both. [Cluster.Repair] follows it, when repairs are due.
func (c *Cluster) Maintain(ctx context.Context) error { return c.maintain(ctx, c.BackendNames()) }

// maintain reconciles and prunes some backends.
func (c *Cluster) maintain(ctx context.Context, backends []string) error {
	reports, err := c.Reconcile(ctx, ReconcileRequest{Backends: backends})
	if err != nil && !errors.Is(err, snapshot.ErrBadRecord) {
		return err
	}
	errs := []error{err} // records that cannot be read keep nothing else from being reconciled and pruned
	var healthy []string
	for _, r := range reports {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("backend %q was not reconciled", r.Backend)) // the reconcile has logged why
		} else {
			healthy = append(healthy, r.Backend)
		}
	}
	if !c.removesAny(healthy) {
		return errors.Join(errs...)
	}
	decisions, err := c.Prune(ctx, PruneRequest{Backends: healthy})
	errs = append(errs, err)
	for _, d := range decisions {
		// A locked copy stays, and is tried again.
		if d.Err != nil && snapshot.ReasonOf(d.Err) != snapshot.ReasonObjectLocked {
			errs = append(errs, fmt.Errorf("prune %s: %w", d.Name, d.Err))
		}
	}
	return errors.Join(errs...)
}

// removesAny reports whether one of these backends has a rule by which a snapshot is ever removed. Without this
// question a prune would scan the catalog of every cluster that keeps everything.
func (c *Cluster) removesAny(backends []string) bool {
	return slices.ContainsFunc(backends, func(b string) bool {
		rules := c.cfg.Retention[b]
		return rules.Removes()
	})
}
