package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Prune applies the retention of each backend and returns a decision for every copy, by backend in the order of the
// configuration, newest first. A copy that could not be removed is in its decision; the error is that of the whole.
//
// The copies on a backend are those in the catalog: a copy that the catalog does not know is never removed.
func (c *Cluster) Prune(ctx context.Context, req PruneRequest) (decisions []Decision, err error) {
	chosen, err := c.choose(req.Backends)
	if err != nil {
		return nil, err
	}
	ctx, trace := span.Run(ctx, "snapshot prune", span.Cluster.String(c.cfg.Name), attribute.Bool("validate_only", req.ValidateOnly))
	defer func() { trace.End(err) }()
	byBackend, err := c.candidates(ctx, chosen, nil)
	if err != nil {
		return nil, err
	}
	for i, repo := range chosen {
		p := &pruning{c: c, repo: repo, rules: c.cfg.Retention[repo.Name()], dry: req.ValidateOnly}
		p.newest = p.rules.Apply(byBackend[i], c.cfg.Now()) // the copies that the listing does not show are decided by this
		there, err := p.listed(ctx, byBackend[i])
		p.newest = p.rules.Apply(there, c.cfg.Now())
		p.obstacle = cmp.Or(err, p.confirmNewest(ctx, byBackend[i]))
		for _, candidate := range byBackend[i] {
			if ctx.Err() != nil {
				return decisions, snapshot.Cancelled(ctx, "prune cluster %q", c.cfg.Name)
			}
			decisions = append(decisions, p.decide(ctx, candidate))
		}
	}
	return decisions, nil
}

// wouldPrune returns which of some snapshots, of which a backend has no copy, its retention would remove if it had one.
func (c *Cluster) wouldPrune(ctx context.Context, repo *repository.Repository, names []string) (map[string]bool, error) {
	absent := map[string]bool{}
	for _, name := range names {
		absent[name] = true
	}
	byBackend, err := c.candidates(ctx, []*repository.Repository{repo}, absent)
	if err != nil {
		return nil, err
	}
	rules := c.cfg.Retention[repo.Name()]
	rules.Apply(byBackend[0], c.cfg.Now())
	for _, candidate := range byBackend[0] {
		if candidate.Stays {
			delete(absent, candidate.Name)
		}
	}
	return absent, nil
}

// candidates returns the READY copies of each backend, and those that are supposed to be there. Only the facts that
// retention needs are held in memory. Copies whose record cannot be read are none: they stay, and do not take the place
// of another one that a rule keeps.
func (c *Cluster) candidates(ctx context.Context, repos []*repository.Repository, supposed map[string]bool) ([][]*snapshot.Candidate, error) {
	all := make([][]*snapshot.Candidate, len(repos))
	var bad snapshot.BadRecords
	for rec, err := range c.cfg.Records.Scan(ctx) {
		if bad.Add(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if rec.State() == snapshot.StateSaving || rec.State() == snapshot.StateDeleting {
			continue
		}
		for i, repo := range repos {
			l := rec.Location(repo.Name())
			if ready := l != nil && l.State == snapshot.StateReady; !ready && !supposed[rec.Name] {
				continue
			}
			size := rec.StoredSize
			if l != nil {
				size = l.Size
			}
			rules := c.cfg.Retention[repo.Name()]
			all[i] = append(all[i], rules.Candidate(rec, size))
		}
	}
	if err := bad.Err(); err != nil {
		c.log.WarnContext(ctx, "records cannot be read; retention leaves their snapshots alone", "error", err)
	}
	return all, nil
}

// pruning is one Prune of one backend.
type pruning struct {
	c        *Cluster
	repo     *repository.Repository
	rules    snapshot.Retention
	dry      bool
	newest   *snapshot.Candidate // it stays, and the others may be removed only because it is there
	obstacle error               // why no copy may be removed now; nil when they may
}

// listed returns the copies that the backend's listing shows, undecided, and the newest in any case. A record without an
// object, as anybody can write one to etcd, must not take the place of a copy that a rule keeps.
func (p *pruning) listed(ctx context.Context, candidates []*snapshot.Candidate) ([]*snapshot.Candidate, error) {
	going := func(c *snapshot.Candidate) bool { return !c.Stays }
	if !slices.ContainsFunc(candidates, going) {
		return candidates, nil
	}
	sizes := make(map[string][]int64, len(candidates))
	for _, cand := range candidates {
		sizes[cand.Name] = nil
	}
	if err := p.repo.Sizes(ctx, sizes); err != nil {
		return candidates, err
	}
	var shown []*snapshot.Candidate
	for _, cand := range candidates {
		if cand == p.newest || slices.Contains(sizes[cand.Name], cand.Size) {
			cand.Undecide()
			shown = append(shown, cand)
		}
	}
	return shown, nil
}

// confirmNewest makes sure that the newest copy, which stays in any case, is really there before others are removed: the
// catalog may be wrong, and a removed copy could be the last one.
func (p *pruning) confirmNewest(ctx context.Context, candidates []*snapshot.Candidate) error {
	if !slices.ContainsFunc(candidates, func(cand *snapshot.Candidate) bool { return !cand.Stays }) {
		return nil
	}
	rec, err := p.c.cfg.Records.Get(ctx, p.newest.Name)
	if err == nil {
		err = p.repo.Whole(ctx, rec)
	}
	switch reason := snapshot.ReasonOf(err); {
	case err == nil:
		return nil
	case snapshot.IsNotFound(err):
		err = errors.New("it is not there")
	case reason != snapshot.ReasonInternal && reason != snapshot.ReasonConflict:
		return err
	}
	return snapshot.ReasonConflict.
		New("prune backend %q: nothing was removed, because the newest snapshot, %s, is not as the catalog has it", p.repo.Name(), p.newest.Name).
		On(p.repo.Name()).Because(err).Advise("reconcile, and prune again")
}

// decide carries out the decision about one copy.
func (p *pruning) decide(ctx context.Context, cand *snapshot.Candidate) Decision {
	d := Decision{Name: cand.Name, Backend: p.repo.Name(), CreateTime: cand.Created, Size: cand.Size, Stays: cand.Stays, Why: cand.Why}
	if cand.Stays {
		return d
	}
	err := p.obstacle
	switch {
	case err != nil:
	case p.dry:
		err = p.wouldRemove(ctx, cand.Name)
	default:
		err = p.remove(ctx, cand)
	}
	if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Reason == snapshot.ReasonObjectLocked {
		d.Stays, d.Why = true, e.Message // the bucket's lock does its work
	}
	d.Err = err
	return d
}

// remove removes a copy, if its record was not changed since the rules were applied in a way that matters, and if the
// newest copy is still there.
func (p *pruning) remove(ctx context.Context, cand *snapshot.Candidate) error {
	rec, err := p.c.cfg.Records.Get(ctx, cand.Name)
	if snapshot.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	l := rec.Location(p.repo.Name())
	if l == nil || l.State != snapshot.StateReady || p.rules.Exemption(&rec.Snapshot) != "" || rec.Proven().IsZero() == cand.Proven {
		return snapshot.ReasonConflict.New("prune %s: it was changed meanwhile", cand.Name).On(p.repo.Name())
	}
	if err := p.newestReady(ctx); err != nil {
		return err
	}
	return p.c.remove(ctx, rec, []string{p.repo.Name()}, func() error { return p.newestReady(ctx) })
}

// newestReady returns an error when the newest copy is not READY in the catalog any more. A prune that was paused may go on
// after the newest copy has been deleted, or was found damaged, and the copy to remove has become the last one.
func (p *pruning) newestReady(ctx context.Context) error {
	rec, err := p.c.cfg.Records.Get(ctx, p.newest.Name)
	if err != nil && !snapshot.IsNotFound(err) {
		return err
	}
	if err == nil {
		if l := rec.Location(p.repo.Name()); l != nil && l.State == snapshot.StateReady {
			return nil
		}
	}
	return snapshot.ReasonConflict.
		New("prune backend %q: no more was removed, because the newest snapshot, %s, is not READY there any more", p.repo.Name(), p.newest.Name).
		On(p.repo.Name()).Advise("prune again")
}

// wouldRemove returns why a copy would not be removed.
func (p *pruning) wouldRemove(ctx context.Context, name string) error {
	rec, err := p.c.cfg.Records.Get(ctx, name)
	if snapshot.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.repo.Removable(ctx, rec)
}
