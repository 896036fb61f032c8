package cluster

import (
	"context"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/cluster/pruning"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// Decision is the verdict of retention on a snapshot on one backend.
type Decision = pruning.Decision

// Prune applies the retention of each backend and returns a decision for every copy, by backend in the order of the
// configuration, newest first. A copy that could not be removed is in its decision; the error is that of the whole.
//
// The copies on a backend are those in the catalog: a copy that the catalog does not know is never removed.
func (c *Cluster) Prune(ctx context.Context, req PruneRequest) (decisions []Decision, err error) {
	chosen, err := c.choose(req.Backends)
	if err != nil {
		return nil, err
	}
	ctx, trace := span.Run(ctx, "snapshot prune", span.Cluster.String(c.cfg.Name),
		attribute.Bool("validate_only", req.ValidateOnly))
	defer func() { trace.End(err) }()
	stock, err := c.stock(ctx, nil)
	if err != nil {
		return nil, err
	}
	// All backends are counted, also those that were not chosen: a copy here may be the one that another of them
	// waits for.
	byBackend := stock.Copies(namesOf(chosen))
	for i, repo := range chosen {
		p := &pruning.Pruning{
			Repository: repo, Rules: c.cfg.Retention[repo.Name()], Records: c.cfg.Records, Now: c.cfg.Now(),
			DryRun: req.ValidateOnly, Confirmed: c.counted,
			Remove: func(ctx context.Context, rec *snapshot.Record, confirm func() error) error {
				return c.remove(ctx, rec, []string{repo.Name()}, confirm)
			},
		}
		decided, err := p.Run(ctx, byBackend[i])
		decisions = append(decisions, decided...)
		for _, others := range byBackend[i+1:] {
			pruning.Forget(others, decided) // a copy that this prune has removed is no change by another replica
		}
		if err != nil {
			return decisions, err
		}
	}
	return decisions, nil
}

// stock returns the copies of all backends, as the catalog has them, and the copies of some snapshots that a backend
// does not have, as if they were to be made. Copies whose record cannot be read are none: they stay, and do not take
// the place of another one that a rule keeps.
func (c *Cluster) stock(ctx context.Context, absent map[string][]*repository.Repository) (*retention.Stock, error) {
	s := retention.NewStock(c.cfg.Now(), c.rulesOf)
	var bad snapshot.BadRecords
	for rec, err := range c.cfg.Records.Scan(ctx) {
		if bad.Add(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.Add(rec)
		for _, repo := range absent[rec.Name] {
			s.Miss(rec, repo.Name())
		}
	}
	if err := bad.Err(); err != nil {
		c.log.WarnContext(ctx, "records cannot be read; retention leaves their snapshots alone", "error", err)
	}
	return s, nil
}

// rulesOf returns the retention of a backend; false when it is not configured. Directories of other nodes have the
// rules of this node's own one, because all replicas have the same configuration.
func (c *Cluster) rulesOf(backend string) (retention.Rules, bool) {
	if configured, isLocal := snapshot.Configured(backend); isLocal {
		backend = snapshot.BackendOn(configured, c.cfg.Node)
	}
	return c.cfg.Retention[backend], c.repo(backend) != nil
}
