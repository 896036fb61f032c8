package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/cluster/amend"
	"github.com/snapshotd/snapshotd/cluster/repairing"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// missing is a copy that a backend should hold and does not.
type missing struct {
	name     string
	repo     *repository.Repository
	created  time.Time // of the snapshot
	since    time.Time // when the copy was found missing
	due      time.Time // its next attempt
	fallback bool      // a replica has the snapshot on its own disk, and only that replica can deliver it
	distant  bool      // only directories of other nodes have it, and only their replicas can copy it
	shared   bool      // a backend that all replicas reach has it
	absent   bool      // the record does not name the backend
}

// RepairWanted gives a token when there may be a copy to repair: a save of this process has ended, or a verification
// has found damage.
func (c *Cluster) RepairWanted() <-chan struct{} { return c.repairWanted }

// wakeRepair gives the token. The channel has room for one, and more are dropped: the receiver looks at the whole queue
// anyway.
func (c *Cluster) wakeRepair() {
	select {
	case c.repairWanted <- struct{}{}:
	default:
	}
}

// Repair copies snapshots to the backends that are in their record and failed to get a copy, as far as their next
// attempt is due, the newest snapshots first. It returns when the next attempt is due; the zero time when none waits.
// While this process saves the cluster it begins no attempt; [Cluster.RepairWanted] says when to call again.
//
// Attempts that fail are in the catalog, with the time of the next one, and are logged; the error is that of the
// catalog or of ctx.
func (c *Cluster) Repair(ctx context.Context) (next time.Time, err error) {
	return c.repairDue(ctx, func(missing) bool { return true })
}

// repairDue makes the copies that are due, of those that are this replica's to make. Copies that wait are counted as
// well, before the first attempt and after the last: the attempts may take hours.
func (c *Cluster) repairDue(ctx context.Context, mine func(missing) bool) (next time.Time, err error) {
	queue, err := c.repairQueue(ctx)
	if err != nil {
		return time.Time{}, err
	}
	queue = slices.DeleteFunc(queue, func(m missing) bool { return !mine(m) })
	c.observeQueue(ctx, queue)
	now := c.cfg.Now()
	newestFirst(queue)
	left := queue[:0]
	stuck := map[string]bool{}
	var run *span.Span // a look at the catalog that finds nothing to do is no run
	defer func() {
		if run != nil {
			run.End(err)
		}
	}()
	for _, m := range queue {
		switch {
		// A save has the network for itself. When it has ended, this queue is looked at again.
		case m.fallback, m.distant, m.due.After(now), c.inflight.Saving():
		// A backend that is down would cost each of its copies a time-out.
		case stuck[m.repo.Name()]:
			m.due = now.Add(snapshot.FirstRepair)
		default:
			if run == nil {
				ctx, run = span.Run(ctx, "repair", span.Cluster.String(c.cfg.Name))
			}
			if m, err = c.tryRepair(ctx, m, stuck); err != nil {
				return time.Time{}, err
			}
		}
		if m.name != "" {
			left = append(left, m)
		}
	}
	c.observeQueue(ctx, left)
	left = slices.DeleteFunc(left, func(m missing) bool { return m.fallback || m.distant })
	if len(left) == 0 {
		return time.Time{}, nil
	}
	return slices.MinFunc(left, func(a, b missing) int { return a.due.Compare(b.due) }).due, nil
}

// newestFirst sorts copies by their snapshots. A second copy of the newest snapshot is worth more than one of an older.
func newestFirst(queue []missing) {
	slices.SortStableFunc(queue, func(a, b missing) int { return b.created.Compare(a.created) })
}

// repaired is how the repair of a copy went.
type repaired struct {
	rec     *snapshot.Record // as the repair has left it; nil when the catalog does not know it
	was     snapshot.State   // of the snapshot before
	done    bool             // the copy was made, or found to be there
	damaged []error          // copies that turned out to be damaged on the way
}

// repairCopy copies a snapshot to a backend, and puts the location into the record. A copy that is not needed any more
// is no error, and not done.
func (c *Cluster) repairCopy(
	ctx context.Context, name string, target *repository.Repository,
) (res repaired, err error) {
	release, err := c.repairing.Take(ctx, "repair %s on backend %q", name, target.Name())
	if err != nil {
		return res, err
	}
	defer release()
	if res.rec, err = c.cfg.Records.Get(ctx, name); snapshot.IsNotFound(err) {
		return res, nil
	} else if err != nil {
		return res, err
	}
	// The queue may be older than the record: a delete, a save that ended or another replica's repair comes first.
	res.was = res.rec.State()
	l := res.rec.Location(target.Name())
	if !res.rec.Repairable() && !c.hasFallback(res.rec) || l != nil && l.State != snapshot.StateFailed {
		return res, nil
	}
	c.inflight.SetCopying(name)
	defer c.inflight.SetCopying("")
	ctx, trace := span.Run(ctx, "snapshot repair", span.Cluster.String(c.cfg.Name), span.Snapshot.String(name),
		span.Backend.String(target.Name()))
	defer func() { trace.End(err) }()

	r := repairing.Repair{
		Record: res.rec, Target: target, Backends: c.repos, Fallback: c.fallback, Node: c.node, Records: c.cfg.Records,
		Now: c.cfg.Now, Observe: c.observe, Logger: c.log,
	}
	err = r.Run(ctx)
	res.rec, res.done, res.damaged = r.Record, r.Done(), r.Damaged()
	if res.done || err != nil {
		c.observe(ctx, snapshot.Event{Type: snapshot.EventRepaired, Name: name, Backend: target.Name(), Err: err})
	}
	return res, err
}

// hasFallback reports whether this replica has the snapshot of a record as its upload fallback.
func (c *Cluster) hasFallback(rec *snapshot.Record) bool {
	return c.fallback != nil && c.node.HasFallback(rec)
}

// repairFailed notes in the record that an attempt has failed, and when the next one is due. The catalog has it, so
// that a new leader does not begin with all copies at once.
func (c *Cluster) repairFailed(
	ctx context.Context, rec *snapshot.Record, backend string, why error,
) (*snapshot.Record, error) {
	rec, err := amend.Snapshot(ctx, c.cfg.Records, rec, func(rec *snapshot.Record, _ bool) error {
		if !rec.RepairFailed(backend, why, c.cfg.Now(), repairPause) {
			return amend.ErrUnchanged
		}
		return nil
	})
	if errors.Is(err, amend.ErrGone) {
		return rec, nil
	}
	return rec, err
}

// repairPause returns the pause after this many failed attempts: doubled each time, give or take a tenth, so that
// copies that failed together are not tried together for ever.
func repairPause(attempts int) time.Duration {
	return backoff.Spread(backoff.Delay(snapshot.FirstRepair, snapshot.MaxRepair, attempts), 0.1)
}

// tryRepair makes one attempt, and returns the copy if it is still missing. It notes in stuck that the whole backend
// failed.
func (c *Cluster) tryRepair(ctx context.Context, m missing, stuck map[string]bool) (missing, error) {
	backend := m.repo.Name()
	repaired, err := c.repairCopy(ctx, m.name, m.repo)
	switch {
	case ctx.Err() != nil:
		return m, snapshot.Cancelled(ctx, "repair cluster %q", c.cfg.Name)
	case err == nil, errors.Is(err, snapshot.ErrBadRecord): // the record cannot be read any more
		return missing{}, nil
	case snapshot.ReasonOf(err) == snapshot.ReasonCatalogUnavailable, repaired.rec == nil:
		return m, err
	}
	stuck[backend] = snapshot.IsOfBackend(err, backend)
	rec, aerr := c.repairFailed(ctx, repaired.rec, backend, err)
	if errors.Is(aerr, snapshot.ErrBadRecord) {
		return missing{}, nil
	}
	if aerr != nil {
		return m, aerr
	}
	if rec.Location(backend) != nil {
		m.due = rec.RepairDue(backend, c.cfg.Now())
	}
	c.log.WarnContext(ctx, "snapshot not repaired", "snapshot", m.name, "backend", backend, "next_try", m.due,
		"error", err)
	return m, nil
}

// repairQueue returns the copies that are missing on configured backends, as the catalog knows, and that another
// backend or a replica's fallback has.
func (c *Cluster) repairQueue(ctx context.Context) ([]missing, error) {
	var queue []missing
	for rec, err := range c.cfg.Records.Scan(ctx) {
		if errors.Is(err, snapshot.ErrBadRecord) {
			continue // reconcile tells of it
		}
		if err != nil {
			return nil, err
		}
		// A snapshot that only a replica's own disk has is in the queue, so that it is counted, though this replica
		// may not be the one that can deliver it.
		fallback := rec.State() == snapshot.StateFailed && rec.FallbackNode() != ""
		if !fallback && (rec.State() != snapshot.StatePartial || !rec.Repairable()) {
			continue
		}
		ready, distant := rec.ReadyOn(), c.node.ReadyElsewhere(rec)
		for _, l := range rec.Locations() {
			if r := c.repo(l.Backend); r != nil && l.State == snapshot.StateFailed {
				queue = append(queue, missing{
					name: rec.Name, repo: r, created: rec.CreateTime, since: l.UpdateTime,
					due: rec.RepairDue(l.Backend, c.cfg.Now()), fallback: fallback,
					distant: len(distant) > 0 && len(distant) == len(ready),
					shared:  slices.ContainsFunc(ready, func(b string) bool { return snapshot.NodeOf(b) == "" }),
				})
			}
		}
	}
	return queue, nil
}

// observeQueue reports the copies that wait, by backend. An alert needs the oldest of them: a queue that is never
// empty may still be moving.
func (c *Cluster) observeQueue(ctx context.Context, queue []missing) {
	byBackend := map[string]snapshot.RepairQueue{}
	for _, m := range queue {
		q := byBackend[m.repo.Name()]
		if q.Count == 0 || m.since.Before(q.Since) {
			q.Since = m.since
		}
		q.Count++
		byBackend[m.repo.Name()] = q
	}
	c.observe(ctx, snapshot.Event{Type: snapshot.EventRepairsQueued, Queued: byBackend})
}

// queueRepair notes the copies of a reconciled record that its backends do not hold, if they are to be repaired. r.mu
// is held.
func (r *reconciliation) queueRepair(rec *snapshot.Record) {
	if !r.req.Repair || rec == nil || !rec.Repairable() {
		return
	}
	for _, v := range r.views {
		l := rec.Location(v.repo.Name())
		if l == nil && local(v.repo) && len(r.req.Backends) == 0 {
			continue // it was saved by another node; this one gets a copy of it only if it is asked for by name
		}
		if l == nil || l.State == snapshot.StateFailed {
			r.queue = append(r.queue, missing{name: rec.Name, repo: v.repo, created: rec.CreateTime, absent: l == nil})
		}
	}
}

// repair makes the copies that reconcile found missing, the newest snapshots first. A backend that could not be
// reconciled is left alone, and so is the rest of a backend that turns out to take no copy.
func (r *reconciliation) repair(ctx context.Context) error {
	if err := r.dropPrunable(ctx); err != nil {
		return err
	}
	newestFirst(r.queue)
	stuck := map[string]bool{}
	for _, m := range r.queue {
		v := r.cmp.viewOf(m.repo.Name())
		switch {
		case !v.known || stuck[m.repo.Name()]:
			continue
		case r.req.ValidateOnly:
			v.report.Repaired++
			continue
		}
		repaired, err := r.c.repairCopy(ctx, m.name, m.repo)
		if ctx.Err() != nil {
			return snapshot.Cancelled(ctx, "repair cluster %q", r.c.cfg.Name)
		}
		r.reportDamaged(v, repaired.damaged)
		if repaired.done {
			v.report.Repaired++
			r.byState[repaired.was]--
			r.byState[repaired.rec.State()]++
		}
		if err != nil {
			r.cmp.failObject(v, err)
			stuck[m.repo.Name()] = snapshot.IsOfBackend(err, m.repo.Name())
		}
	}
	return nil
}

// dropPrunable leaves out the copies that a backend does not have and that its retention would remove again.
func (r *reconciliation) dropPrunable(ctx context.Context) error {
	absent := map[string][]*repository.Repository{} // by name
	for _, m := range r.queue {
		if m.absent {
			absent[m.name] = append(absent[m.name], m.repo)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	stock, err := r.c.stock(ctx, absent)
	if err != nil {
		return err
	}
	kept := map[string]map[string]bool{}
	for _, v := range r.views {
		kept[v.repo.Name()] = stock.Awaited(v.repo.Name())
	}
	r.queue = slices.DeleteFunc(r.queue, func(m missing) bool { return m.absent && !kept[m.repo.Name()][m.name] })
	return nil
}

// reportDamaged puts copies that turned out to be damaged into the report of their backend, if it was asked for, or
// of the backend that was to be repaired from them.
func (r *reconciliation) reportDamaged(target *view, damaged []error) {
	for _, err := range damaged {
		v := target
		if of := r.cmp.viewOf(snapshot.BackendOf(err)); of != nil {
			v = of
		}
		r.cmp.failObject(v, err)
	}
}
