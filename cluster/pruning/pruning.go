// Package pruning carries out the decisions of retention about the copies on one backend.
//
// Retention decides by the catalog, which may be wrong: it came back from the past, or was changed by another program.
// So before a copy goes, the backend itself is asked, and it has the last word.
package pruning

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/cache"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
)

// Decision is the verdict of retention on a snapshot on one backend.
type Decision struct {
	Name       string
	Backend    string
	CreateTime time.Time
	Size       int64
	Stays      bool
	Why        string // the rule that keeps it, or why it is removed or could not be
	Err        error  // it was to be removed, and this is why it is still there
}

// Records is the part of the catalog that is needed to prune.
type Records interface {
	Get(ctx context.Context, name string) (*snapshot.Record, error)
}

// Pruning is one Prune of one backend.
type Pruning struct {
	Repository *repository.Repository
	Rules      retention.Rules
	Records    Records
	Now        time.Time
	DryRun     bool
	// Remove removes the copy of a snapshot. confirm is called once every replica can see that the copy is being
	// removed; its error takes that back.
	Remove func(ctx context.Context, rec *snapshot.Record, confirm func() error) error

	// Confirmed remembers the facts that a manifest has confirmed, which never change. Optional.
	Confirmed *cache.Cache[Facts]

	newest       *retention.Candidate // it stays, and the others may be removed only because it is there
	contradicted map[*retention.Candidate]error
	unlisted     map[*retention.Candidate]bool // they may go only when the backend confirms that they are gone
	obstacle     error                         // why no copy may be removed now; nil when they may
}

// Run decides about copies, and removes those that no rule keeps. A copy that could not be removed is in its
// decision; the error is that ctx has ended.
func (p *Pruning) Run(ctx context.Context, copies []*retention.Candidate) (decisions []Decision, err error) {
	p.contradicted, p.unlisted = map[*retention.Candidate]error{}, map[*retention.Candidate]bool{}
	// The rules are applied twice: to all copies of the catalog, so that each has a decision, and then to those alone
	// that the backend really has. A copy that is not there must not make another one go.
	p.newest = p.Rules.Apply(copies, p.Now)
	there, err := p.listed(ctx, copies)
	if p.newest = p.Rules.Apply(there, p.Now); err == nil {
		err = p.confirmKept(ctx, there)
	}
	if p.obstacle = err; err == nil {
		p.obstacle = p.confirmNewest(ctx, copies)
	}
	for _, c := range copies {
		if ctx.Err() != nil {
			return decisions, snapshot.Cancelled(ctx, "prune backend %q", p.Repository.Name())
		}
		decisions = append(decisions, p.decide(ctx, c))
	}
	return decisions, nil
}

// NoneRemoved returns the error of a prune that could remove nothing of what it was to remove. What a bucket's lock
// keeps was not to be removed yet.
func NoneRemoved(decisions []Decision) error {
	var first error
	failed := 0
	for _, d := range decisions {
		if d.Stays {
			continue
		}
		if d.Err == nil {
			return nil
		}
		if failed++; first == nil {
			first = d.Err
		}
	}
	if first == nil {
		return nil
	}
	return fmt.Errorf("none of the %d copies that retention removes could be removed; the first: %w", failed, first)
}

// Forget takes the copies that were removed off the numbers of READY copies in the candidates of other backends.
func Forget(others []*retention.Candidate, decided []Decision) {
	removed := map[string]bool{}
	for _, d := range decided {
		removed[d.Name] = !d.Stays && d.Err == nil
	}
	for _, c := range others {
		if removed[c.Name] {
			c.Ready--
		}
	}
}

// listed returns the copies that the backend's listing shows, undecided, and the newest in any case. A record without
// an object must not take the place of a copy that a rule keeps: the catalog is no witness. For the same reason no copy
// goes by the decision so far, which counted such records, and sizes that no object has.
func (p *Pruning) listed(ctx context.Context, copies []*retention.Candidate) ([]*retention.Candidate, error) {
	// Most prunes end here. Without a copy to remove, neither listing nor manifests cost a request.
	going := func(c *retention.Candidate) bool { return !c.Stays }
	if !slices.ContainsFunc(copies, going) {
		return copies, nil
	}
	sizes := make(map[string][]int64, len(copies))
	for _, c := range copies {
		sizes[c.Name] = nil
	}
	if err := p.Repository.Sizes(ctx, sizes); err != nil {
		return copies, err
	}
	var shown []*retention.Candidate
	for _, c := range copies {
		switch found := sizes[c.Name]; {
		case c == p.newest || slices.Contains(found, c.Size):
			c.Undecide()
			shown = append(shown, c)
		case len(found) > 0:
			p.contradict(c, fmt.Sprintf("it has %d bytes there, and %d in its record", found[0], c.Size))
		default:
			p.unlisted[c] = true
		}
	}
	return shown, nil
}

// contradict keeps a copy of which its backend says something else than the catalog.
func (p *Pruning) contradict(c *retention.Candidate, why string) {
	c.Contradict(why)
	p.contradicted[c] = p.disagrees(c, why)
}

// confirmKept compares the facts of the copies that stay with their manifests, before others are removed because of
// them. A forged record could give an old copy a new time, and would push the new ones out. A copy that its backend
// contradicts stays and takes no place; then the rules are applied to the others alone.
func (p *Pruning) confirmKept(ctx context.Context, there []*retention.Candidate) error {
	going := func(c *retention.Candidate) bool { return !c.Stays }
	if !slices.ContainsFunc(there, going) {
		return nil // no manifest is read now, and all confirmed facts stay
	}
	good := map[*retention.Candidate]bool{}
	for slices.ContainsFunc(there, going) {
		before := len(there)
		var failed error
		there = slices.DeleteFunc(there, func(c *retention.Candidate) bool {
			if failed != nil || !c.Stays || good[c] {
				return false
			}
			why, err := p.contradiction(ctx, c)
			if failed = err; err == nil && why != "" {
				p.contradict(c, why)
				return true
			}
			good[c] = true
			return false
		})
		if failed != nil {
			return failed
		}
		if len(there) == before {
			break
		}
		// Without the contradicted copy, the rules keep others, which are not confirmed yet. So it goes on.
		for _, c := range there {
			c.Undecide()
		}
		if p.newest = p.Rules.Apply(there, p.Now); p.newest == nil {
			return p.conflict("nothing was removed, because no snapshot is as the catalog has it").
				Advise("reconcile, and prune again")
		}
	}
	if p.Confirmed != nil {
		p.Confirmed.Forget(p.Repository.Name(), p.Now)
	}
	return nil
}

// Facts are those by which retention counts a copy.
type Facts struct {
	created   int64
	revision  int64
	size      int64
	etcd      string
	exemption string
}

// contradiction returns how the backend contradicts the catalog about a copy; empty when they agree.
func (p *Pruning) contradiction(ctx context.Context, c *retention.Candidate) (why string, err error) {
	backend, says := p.Repository.Name(), Facts{c.Created.UnixNano(), c.Revision, c.Size, c.Etcd, c.Exemption}
	if p.Confirmed != nil {
		if known, ok := p.Confirmed.Get(backend, c.Name, p.Now); ok && known == says {
			return "", nil
		}
	}
	m, err := p.Repository.ReadManifest(ctx, c.Name)
	switch {
	case snapshot.IsNotFound(err) && c.Adopted:
		if created, _ := snapshot.Origin(c.Name, c.Created); !created.Equal(c.Created) {
			return "its name says " + created.Format(time.RFC3339), nil
		}
		return "", nil
	case snapshot.IsNotFound(err):
		return snapshot.ManifestMissing, nil
	case snapshot.IsDamage(err):
		return "its manifest cannot be used: " + err.Error(), nil
	case err != nil:
		return "", err
	case c.Adopted:
		return "it is a snapshot of this program", nil
	case !m.Removed.IsZero():
		return "its removal has begun", nil
	}
	s := &m.Record.Snapshot
	found := Facts{s.CreateTime.UnixNano(), s.Revision, s.StoredSize, s.EtcdClusterID, p.Rules.Exemption(s)}
	if c.Exemption != "" { // it is kept in any case: an update of the pin may have ended half-way
		found.exemption = c.Exemption
	}
	if found != says {
		return fmt.Sprintf("its manifest says %s, %s, revision %d, %d bytes, pinned %t", s.Trigger,
			s.CreateTime.Format(time.RFC3339), s.Revision, s.StoredSize, s.Pinned), nil
	}
	if p.Confirmed != nil {
		p.Confirmed.Put(backend, c.Name, says, p.Now)
	}
	return "", nil
}

// disagrees is the error of a copy of which catalog and backend say different things.
func (p *Pruning) disagrees(c *retention.Candidate, why string) error {
	return snapshot.ReasonConflict.
		New("prune backend %q: %s stays and counts for no rule: its record says something else than its backend: %s",
			p.Repository.Name(), c.Name, why).On(p.Repository.Name()).Final().
		Advise("reconcile; if that does not help, the record was changed by something else: delete its key in etcd " +
			"(etcdctl del), and reconcile makes it anew")
}

// confirmNewest makes sure that the newest copy, which stays in any case, is really there before others are removed:
// the catalog may be wrong, and a removed copy could be the last one.
func (p *Pruning) confirmNewest(ctx context.Context, copies []*retention.Candidate) error {
	if !slices.ContainsFunc(copies, func(c *retention.Candidate) bool { return !c.Stays }) {
		return nil
	}
	rec, err := p.Records.Get(ctx, p.newest.Name)
	if err == nil {
		err = p.Repository.Whole(ctx, rec)
	}
	switch reason := snapshot.ReasonOf(err); {
	case err == nil:
		return nil
	case snapshot.IsNotFound(err):
		err = errors.New("it is not there")
	case reason != snapshot.ReasonInternal && reason != snapshot.ReasonConflict:
		return err
	}
	return p.conflict("nothing was removed, because the newest snapshot, " + p.newest.Name +
		", is not as the catalog has it").Because(err).Advise("reconcile, and prune again")
}

// conflict is the error that the copies are not as the decision took them to be.
func (p *Pruning) conflict(why string) *snapshot.Error {
	return snapshot.ReasonConflict.New("prune backend %q: %s", p.Repository.Name(), why).On(p.Repository.Name())
}

// decide carries out the decision about one copy. An error is part of the answer and ends nothing: the other copies are
// decided on their own.
func (p *Pruning) decide(ctx context.Context, c *retention.Candidate) Decision {
	d := Decision{Name: c.Name, Backend: p.Repository.Name(), CreateTime: c.Created, Size: c.Size, Stays: c.Stays,
		Why: c.Why}
	if c.Stays {
		d.Err = p.contradicted[c]
		return d
	}
	err := p.obstacle
	switch {
	case err != nil:
	case p.DryRun:
		err = p.wouldRemove(ctx, c)
	default:
		err = p.remove(ctx, c)
	}
	if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Reason == snapshot.ReasonObjectLocked {
		d.Stays, d.Why = true, e.Message // the bucket's lock does its work
	}
	d.Err = err
	return d
}

// remove removes a copy, if its record was not changed since the rules were applied in a way that matters, and if the
// newest copy is still there.
func (p *Pruning) remove(ctx context.Context, c *retention.Candidate) error {
	rec, err := p.Records.Get(ctx, c.Name)
	if snapshot.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// A pin, a verification or a repair of this moment is not known to the rules. One that lacked a copy, and has lost
	// another one since, is PARTIAL as before: this copy may be the last.
	l := rec.Location(p.Repository.Name())
	if l == nil || l.State != snapshot.StateReady || rec.State() != c.State || len(rec.ReadyOn()) < c.Ready ||
		p.Rules.Exemption(&rec.Snapshot) != "" || rec.Proven().IsZero() == c.Proven {
		return snapshot.ReasonConflict.New("prune %s: it was changed meanwhile", c.Name).On(p.Repository.Name())
	}
	if err := p.newestReady(ctx); err != nil {
		return err
	}
	if err := p.confirmUnlisted(ctx, c, rec); err != nil {
		return err
	}
	return p.Remove(ctx, rec, func() error { return p.newestReady(ctx) })
}

// newestReady returns an error when the newest copy is not READY in the catalog any more. A prune that was paused may
// go on after the newest copy has been deleted, or was found damaged, and the copy to remove has become the last one.
func (p *Pruning) newestReady(ctx context.Context) error {
	rec, err := p.Records.Get(ctx, p.newest.Name)
	if err != nil && !snapshot.IsNotFound(err) {
		return err
	}
	if err == nil {
		if l := rec.Location(p.Repository.Name()); l != nil && l.State == snapshot.StateReady {
			return nil
		}
	}
	return p.conflict("no more was removed, because the newest snapshot, " + p.newest.Name +
		", is not READY there any more").Advise("prune again")
}

// wouldRemove returns why a copy would not be removed, as far as that can be known without removing it. A dry run
// that promised more than the run can do would be of no use.
func (p *Pruning) wouldRemove(ctx context.Context, c *retention.Candidate) error {
	rec, err := p.Records.Get(ctx, c.Name)
	if snapshot.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = p.confirmUnlisted(ctx, c, rec)
	}
	if err != nil {
		return err
	}
	return p.Repository.Removable(ctx, rec)
}

// confirmUnlisted returns an error when a copy that the listing did not show is there. What the catalog says of it was
// compared with nothing.
func (p *Pruning) confirmUnlisted(ctx context.Context, c *retention.Candidate, rec *snapshot.Record) error {
	if !p.unlisted[c] {
		return nil
	}
	gone, err := p.Repository.ConfirmGone(ctx, rec, "")
	if err == nil && !gone {
		err = p.conflict(c.Name + " was not removed, because it is there and was not listed").Advise("prune again")
	}
	return err
}
