package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// missing is a copy that a backend should hold and does not.
type missing struct {
	name    string
	backend string
	created time.Time // the snapshot
	since   time.Time // the copy is missing
	due     time.Time // its next attempt
	kept    bool      // by a replica on its own disk, which alone can bring it
	absent  bool      // the record does not name the backend
}

// want notes what a requested repair has to do about a record that reconcile has settled. r.mu is held.
func (r *reconciliation) want(rec *Record) {
	if !r.repairs || rec == nil || !repairable(rec) {
		return
	}
	for _, v := range r.views {
		if l := rec.Location(v.b.Name()); l == nil || l.State == StateFailed {
			r.wanted = append(r.wanted, missing{name: rec.Name, backend: v.b.Name(), created: rec.CreateTime, absent: l == nil})
		}
	}
}

// repair makes the copies that reconcile found missing, the newest snapshots first. A backend that could not be reconciled
// is left alone, and so is the rest of one that turns out not to take anything.
func (r *reconciliation) repair(ctx context.Context) error {
	if err := r.dropUnkept(ctx); err != nil {
		return err
	}
	slices.SortStableFunc(r.wanted, func(a, b missing) int { return b.created.Compare(a.created) })
	stuck := map[string]bool{}
	for _, m := range r.wanted {
		v := r.views[r.viewOf(m.backend)]
		switch {
		case !v.known || stuck[m.backend]:
			continue
		case r.dry:
			v.report.Repaired++
			continue
		}
		h, err := r.heal(ctx, m.name, v.b)
		if ctx.Err() != nil {
			return cancelled(ctx, fmt.Sprintf("repair cluster %q", r.cfg.Name))
		}
		r.reportDamaged(v, h)
		if h.done {
			v.report.Repaired++
			r.byState[h.was]--
			r.byState[h.rec.State]++
		}
		if err != nil {
			r.fail(v, err)
			stuck[m.backend] = isStuck(err, m.backend)
		}
	}
	return nil
}

// dropUnkept leaves out the copies that a backend has none of, and whose retention would remove them again.
func (r *reconciliation) dropUnkept(ctx context.Context) error {
	absent := map[string][]string{} // names, by backend
	for _, m := range r.wanted {
		if rules := r.cfg.Retention[m.backend]; m.absent && rules.rules() {
			absent[m.backend] = append(absent[m.backend], m.name)
		}
	}
	for backend, names := range absent {
		unkept, err := r.unkept(ctx, r.views[r.viewOf(backend)].b, names)
		if err != nil {
			return err
		}
		r.wanted = slices.DeleteFunc(r.wanted, func(m missing) bool { return m.absent && m.backend == backend && unkept[m.name] })
	}
	return nil
}

// reportDamaged puts copies that turned out to be damaged into the report of their backend, if it was asked for, or of the
// one that was to be repaired from them.
func (r *reconciliation) reportDamaged(target *view, h *healing) {
	for _, err := range h.damaged {
		v := target
		if e, ok := errors.AsType[*Error](err); ok {
			if i := r.viewOf(e.Backend); i >= 0 {
				v = r.views[i]
			}
		}
		r.fail(v, err)
	}
}

// isStuck reports whether an error is of the whole backend, so that trying the next snapshot there is of no use.
func isStuck(err error, backend string) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Backend != backend {
		return false
	}
	switch e.Reason {
	case ReasonBackendUnavailable, ReasonBackendAccessDenied, ReasonBackendNotFound, ReasonBackendWrongStore, ReasonNoSpace:
		return true
	default:
		return false
	}
}

// Landed gives a token when a save of this process has ended: there may be something to repair.
func (c *Cluster) Landed() <-chan struct{} { return c.landed }

// Repair brings copies to the backends that are in a snapshot's record and failed to get one, as far as their next attempt is
// due, the newest snapshots first. It returns when the next attempt is due; the zero time when nothing waits. While this
// process saves the cluster it begins no attempt; [Cluster.Landed] says when to call again.
//
// Attempts that fail are in the catalog, with the time of the next one, and are logged; the error is that of the catalog or
// of ctx.
func (c *Cluster) Repair(ctx context.Context) (next time.Time, err error) {
	waiting, err := c.waiting(ctx)
	if err != nil {
		return time.Time{}, err
	}
	c.observeWaiting(ctx, waiting)
	now := c.cfg.Now()
	slices.SortStableFunc(waiting, func(a, b missing) int { return b.created.Compare(a.created) })
	left := waiting[:0]
	stuck := map[string]bool{}
	for _, m := range waiting {
		switch {
		case m.kept, m.due.After(now), c.busy():
		case stuck[m.backend]:
			m.due = now.Add(FirstRepair)
		default:
			m, err = c.tryRepair(ctx, m, stuck)
		}
		if err != nil {
			return time.Time{}, err
		}
		if m.name != "" {
			left = append(left, m)
		}
	}
	c.observeWaiting(ctx, left)
	left = slices.DeleteFunc(left, func(m missing) bool { return m.kept })
	if len(left) == 0 {
		return time.Time{}, nil
	}
	return slices.MinFunc(left, func(a, b missing) int { return a.due.Compare(b.due) }).due, nil
}

// tryRepair makes one attempt, and returns what is still missing.
func (c *Cluster) tryRepair(ctx context.Context, m missing, stuck map[string]bool) (missing, error) {
	target := c.cfg.Backends[slices.Index(c.BackendNames(), m.backend)]
	h, err := c.heal(ctx, m.name, target)
	switch {
	case ctx.Err() != nil:
		return m, cancelled(ctx, fmt.Sprintf("repair cluster %q", c.cfg.Name))
	case err == nil:
		return missing{}, nil
	case ReasonOf(err) == ReasonCatalogUnavailable:
		return m, err
	}
	stuck[m.backend] = isStuck(err, m.backend)
	if aerr := h.failedAttempt(ctx, c.cfg.Now(), err); aerr != nil {
		return m, aerr
	}
	if l := h.rec.Location(m.backend); l != nil {
		m.due = h.rec.repairDue(l, c.cfg.Now())
	}
	c.log.WarnContext(ctx, "snapshot not repaired", "snapshot", m.name, "backend", m.backend, "next_try", m.due, "error", err)
	return m, nil
}

// busy reports whether this process saves the cluster.
func (c *Cluster) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flight != nil
}

// waiting returns what the catalog knows to be missing on backends that are configured and can be had from another one.
func (c *Cluster) waiting(ctx context.Context) ([]missing, error) {
	var all []missing
	names := c.BackendNames()
	for rec, err := range c.cfg.Catalog.Scan(ctx) {
		if err != nil {
			return nil, err
		}
		if kept := rec.State == StateFailed && rec.KeptOn != ""; !kept && (rec.State != StatePartial || !repairable(rec)) {
			continue
		}
		for i := range rec.Locations {
			if l := &rec.Locations[i]; l.State == StateFailed && slices.Contains(names, l.Backend) {
				all = append(all, missing{name: rec.Name, backend: l.Backend, created: rec.CreateTime, since: l.UpdateTime, due: rec.repairDue(l, c.cfg.Now()), kept: rec.KeptOn != ""})
			}
		}
	}
	return all, nil
}

func (c *Cluster) observeWaiting(ctx context.Context, all []missing) {
	by := map[string]Waiting{}
	for _, m := range all {
		w := by[m.backend]
		if w.Count == 0 || cmp.Compare(m.since.UnixNano(), w.Since.UnixNano()) < 0 {
			w.Since = m.since
		}
		w.Count++
		by[m.backend] = w
	}
	c.cfg.Observer.Waiting(ctx, c.cfg.Name, by)
}
