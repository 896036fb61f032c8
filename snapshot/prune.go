package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// PruneRequest asks for retention to be applied.
type PruneRequest struct {
	Backends     []string // names; all of the cluster's when empty
	ValidateOnly bool     // say what would go and remove nothing
}

// Decision is what retention says of a snapshot on one backend.
type Decision struct {
	Name       string
	Backend    string
	CreateTime time.Time
	Size       int64
	Stays      bool
	Why        string // the rule that keeps it, or why it goes or could not
	Err        error  // it was to go, and this is why it is still there
}

// Prune applies the retention of each backend and returns a decision for every copy, by backend in the order of the
// configuration, newest first. A copy that could not be removed is in its decision; the error is that of the whole.
//
// What a backend holds is taken from the catalog: what the catalog does not know is never removed.
func (c *Cluster) Prune(ctx context.Context, req PruneRequest) (decisions []Decision, err error) {
	backends, err := c.choose(req.Backends)
	if err != nil {
		return nil, err
	}
	ctx, span := tracer.Start(ctx, "snapshot prune")
	span.SetAttributes(attribute.String("cluster", c.cfg.Name), attribute.Bool("validate_only", req.ValidateOnly))
	defer func() { endSpan(span, err) }()
	byBackend, err := c.copies(ctx, backends, nil)
	if err != nil {
		return nil, err
	}
	for i, b := range backends {
		rules := c.cfg.Retention[b.Name()]
		newest := rules.apply(byBackend[i], c.cfg.Now())
		doubt := c.confirmNewest(ctx, b, byBackend[i], newest)
		for _, cp := range byBackend[i] {
			if ctx.Err() != nil {
				return decisions, cancelled(ctx, fmt.Sprintf("prune cluster %q", c.cfg.Name))
			}
			decisions = append(decisions, c.decide(ctx, b, cp, newest, doubt, req.ValidateOnly))
		}
	}
	return decisions, nil
}

// unkept returns which of some snapshots that a backend has no copy of its retention would remove if it had one of each.
func (c *Cluster) unkept(ctx context.Context, b Backend, names []string) (map[string]bool, error) {
	absent := map[string]bool{}
	for _, name := range names {
		absent[name] = true
	}
	copies, err := c.copies(ctx, []Backend{b}, absent)
	if err != nil {
		return nil, err
	}
	rules := c.cfg.Retention[b.Name()]
	rules.apply(copies[0], c.cfg.Now())
	for _, cp := range copies[0] {
		if cp.stays {
			delete(absent, cp.name)
		}
	}
	return absent, nil
}

// copies returns the READY copies of each backend, and those that are supposed to be there. Only what retention needs of them is
// held in memory.
func (c *Cluster) copies(ctx context.Context, backends []Backend, supposed map[string]bool) ([][]*copyOf, error) {
	all := make([][]*copyOf, len(backends))
	for rec, err := range c.cfg.Catalog.Scan(ctx) {
		if err != nil {
			return nil, err
		}
		if rec.State == StateSaving || rec.State == StateDeleting {
			continue
		}
		for i, b := range backends {
			l := rec.Location(b.Name())
			if ready := l != nil && l.State == StateReady; !ready && !supposed[rec.Name] {
				continue
			}
			size := rec.StoredSize
			if l != nil {
				size = l.Size
			}
			rules := c.cfg.Retention[b.Name()]
			all[i] = append(all[i], &copyOf{
				name: rec.Name, created: rec.CreateTime, size: size, etcd: rec.EtcdClusterID, revision: rec.Revision,
				proven: !rec.Proven.IsZero(), exempt: rules.exempts(&rec.Snapshot),
			})
		}
	}
	return all, nil
}

// confirmNewest makes sure that the newest copy, which stays whatever the rules say, is really there, if others are to go:
// the catalog may be wrong, and what is removed then could be the last one.
func (c *Cluster) confirmNewest(ctx context.Context, b Backend, copies []*copyOf, newest *copyOf) error {
	if !slices.ContainsFunc(copies, func(cp *copyOf) bool { return !cp.stays }) {
		return nil
	}
	rec, err := c.cfg.Catalog.Get(ctx, newest.name)
	var o Object
	if err == nil {
		o, err = b.Stat(ctx, c.key(rec.DataKey()))
	}
	if err == nil && rec.Trigger != TriggerAdopted {
		_, err = b.Stat(ctx, c.key(ManifestKey(rec.Name)))
	}
	switch {
	case isNotFound(err):
		err = errors.New("it is not there")
	case err == nil && o.Size != newest.size:
		err = fmt.Errorf("it has %d bytes instead of %d", o.Size, newest.size)
	case err == nil:
		return nil
	case ReasonOf(err) != ReasonInternal:
		return err
	}
	return &Error{
		Reason: ReasonConflict, Backend: b.Name(), Retry: retryAfter(ReasonConflict),
		Message: fmt.Sprintf("prune backend %q: nothing was removed, because the newest snapshot, %s, is not what the catalog says", b.Name(), newest.name),
		Err:     err, Hint: "reconcile, and prune again",
	}
}

// exempts says why the rules are not for a snapshot; empty when they are.
func (r *Retention) exempts(s *Snapshot) string {
	switch {
	case s.Pinned:
		return "it is pinned"
	case !r.rules():
		return "there is no retention for this backend"
	case s.Trigger == TriggerManual && !r.OnDemand:
		return "somebody asked for it (on_demand)"
	case s.Trigger == TriggerAdopted && !r.Adopted:
		return "another program took it (adopted)"
	case s.Trigger == TriggerUnspecified:
		return "it is not known what it was taken for"
	}
	return ""
}

// decide carries out what retention says of one copy. doubt, when there is one, is why nothing may be removed now.
func (c *Cluster) decide(ctx context.Context, b Backend, cp, newest *copyOf, doubt error, dry bool) Decision {
	d := Decision{Name: cp.name, Backend: b.Name(), CreateTime: cp.created, Size: cp.size, Stays: cp.stays, Why: cp.why}
	if cp.stays {
		return d
	}
	err := doubt
	switch {
	case err != nil:
	case dry:
		err = c.wouldRemove(ctx, b, cp.name)
	default:
		err = c.prune(ctx, b, cp, newest)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Reason == ReasonObjectLocked {
		d.Stays, d.Why = true, e.Message // it is as it should be
		return d
	}
	d.Err = err
	return d
}

// prune removes a copy, if nobody has changed its record since the rules were applied in a way that matters, and the newest
// copy, for the sake of which it may go, is still there.
func (c *Cluster) prune(ctx context.Context, b Backend, cp, newest *copyOf) error {
	rec, err := c.cfg.Catalog.Get(ctx, cp.name)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	rules := c.cfg.Retention[b.Name()]
	if l := rec.Location(b.Name()); l == nil || l.State != StateReady || rules.exempts(&rec.Snapshot) != "" || rec.Proven.IsZero() == cp.proven {
		return &Error{Reason: ReasonConflict, Backend: b.Name(), Message: fmt.Sprintf("prune %s: it was changed meanwhile", cp.name), Retry: retryAfter(ReasonConflict)}
	}
	still := func() error { return c.stillReady(ctx, b, newest.name) }
	if err := still(); err != nil {
		return err
	}
	return c.remove(ctx, rec, []string{b.Name()}, still)
}

// stillReady says that a copy is not READY in the catalog any more. A prune that was paused may go on when the newest copy has
// been deleted, or was found damaged, and what it was about to remove has become the last one.
func (c *Cluster) stillReady(ctx context.Context, b Backend, newest string) error {
	rec, err := c.cfg.Catalog.Get(ctx, newest)
	if err != nil && !isNotFound(err) {
		return err
	}
	if err == nil {
		if l := rec.Location(b.Name()); l != nil && l.State == StateReady {
			return nil
		}
	}
	return &Error{
		Reason: ReasonConflict, Backend: b.Name(), Retry: retryAfter(ReasonConflict),
		Message: fmt.Sprintf("prune backend %q: no more was removed, because the newest snapshot, %s, is not READY there any more", b.Name(), newest),
		Hint:    "prune again",
	}
}

// wouldRemove says why a copy would not be removed.
func (c *Cluster) wouldRemove(ctx context.Context, b Backend, name string) error {
	rec, err := c.cfg.Catalog.Get(ctx, name)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.removable(ctx, b, rec)
}

// unlocked returns an error with ReasonObjectLocked when a backend's copy may not be removed yet.
func (c *Cluster) unlocked(ctx context.Context, b Backend, rec *Record) error {
	o, err := b.Stat(ctx, c.key(rec.DataKey()))
	if err != nil {
		return err
	}
	if until := o.LockedUntil; until.After(c.cfg.Now()) {
		return &Error{
			Reason: ReasonObjectLocked, Backend: b.Name(),
			Message: fmt.Sprintf("backend %q: %s is locked until %s", b.Name(), rec.Name, until.UTC().Format(time.RFC3339)),
			Hint:    "the bucket's object lock keeps it; it can be removed after that",
		}
	}
	return nil
}

// Retains reports whether there is a rule by which a snapshot would ever go.
func (c *Cluster) Retains() bool {
	return slices.ContainsFunc(c.cfg.Backends, func(b Backend) bool { r := c.cfg.Retention[b.Name()]; return r.rules() })
}
