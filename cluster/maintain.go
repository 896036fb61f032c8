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
// pruned, and neither does an object that cannot be read keep its backend from being pruned. The error joins the
// failures of both. [Cluster.Repair] follows it, when repairs are due.
//
// A prune is safe beside such objects, because it believes neither the catalog nor this reconcile: of a copy that is to
// keep a place, it lists the data and reads the manifest; that the newest copy is whole is confirmed; and before each
// removal the marker of the store and the manifest of the copy are read again. What cannot be read then stays, or ends
// the prune.
func (c *Cluster) Maintain(ctx context.Context) error { return c.maintain(ctx, c.BackendNames()) }

// maintain reconciles and prunes some backends.
func (c *Cluster) maintain(ctx context.Context, backends []string) error {
	reports, err := c.Reconcile(ctx, ReconcileRequest{Backends: backends})
	if err != nil && !errors.Is(err, snapshot.ErrBadRecord) {
		return err
	}
	errs := []error{err} // records that cannot be read keep nothing else from being reconciled and pruned
	var seen []string
	for _, r := range reports {
		switch { // the reconcile has logged why
		case r.Unseen:
			errs = append(errs, fmt.Errorf("backend %q was not reconciled", r.Backend))
			continue
		case r.Err != nil:
			errs = append(errs, fmt.Errorf("backend %q was reconciled but for some objects", r.Backend))
		}
		seen = append(seen, r.Backend)
	}
	if !c.removesAny(seen) {
		return errors.Join(errs...)
	}
	decisions, err := c.Prune(ctx, PruneRequest{Backends: seen})
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
