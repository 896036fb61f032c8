package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// failedAge is how long the record of a failed save is kept.
	failedAge = 24 * time.Hour
	// youngAge is how old a record must be before it may be removed, and another program's file before it is read: its
	// writer may still be at work.
	youngAge = time.Minute
)

// reconcileRecord makes the record of one name tell the truth about the backends that are known. Its error ends the
// whole reconciliation; the error of one backend is noted in its view.
func (r *reconciliation) reconcileRecord(ctx context.Context, it item) error {
	if it.bad {
		r.leaveAlone(it)
		return nil
	}
	e := newListed(it)
	if it.rec == nil {
		it.discovered = true
		return r.discover(ctx, it, e)
	}
	rec := it.rec.Copy()
	// A removal is reconciled alone. With copies that come and go, nothing else about the record can be told for
	// certain.
	if r.removalBegun(rec) {
		return r.reconcileRemoval(ctx, it, rec, e)
	}
	if rec.State() != snapshot.StateSaving {
		r.cmp.reconcileLocations(ctx, it, rec, e)
	} else if dead, err := r.reconcileSaving(ctx, it, rec, e); err != nil || !dead {
		return err
	}
	return r.finish(ctx, it, rec, e)
}

// finish drops the parts of a record that are of no use any more, and writes it if anything has changed. A record
// without any use goes as a whole.
func (r *reconciliation) finish(ctx context.Context, it item, rec *snapshot.Record, e *effect) error {
	if r.retire(ctx, rec, e); len(rec.Locations()) == 0 && len(e.retired) > 0 {
		return r.commit(ctx, it, nil, e, true)
	}
	// Data that no caller was told of goes before its record. Without the record it could be another program's, and
	// would stay.
	left, err := r.sweepOrphans(ctx, it, rec)
	if errors.Is(err, snapshot.ErrConflict) {
		return r.commit(ctx, it, rec, newEffect(len(r.views)), false) // another replica is at work; the next run looks again
	}
	if err != nil {
		return err
	}
	if !left && r.allSeen(it, rec) && !r.c.node.AnyElsewhere(rec) && r.forgettable(rec) {
		return r.commit(ctx, it, nil, e, true)
	}
	return r.commit(ctx, it, rec, e, !it.rec.SameStatus(rec) || it.rec.Generation != rec.Generation)
}

// newListed returns the effect of a name that is only counted where it was listed.
func newListed(it item) *effect {
	e := newEffect(len(it.groups))
	for i, g := range it.groups {
		if g != nil && g.Manifest && len(g.Objects) > 0 {
			e.on[i].listed = true
		}
	}
	return e
}

// commit writes the reconciled record of one name: rec nil removes it, write false leaves it as it is. A record that
// another replica changed meanwhile is left to the next reconciliation. One that another replica has just made is
// looked at again: that replica may not see the directory of this node, and the next reconciliation may be hours
// away.
func (r *reconciliation) commit(ctx context.Context, it item, rec *snapshot.Record, e *effect, write bool) error {
	if write && !r.req.ValidateOnly {
		err := r.write(ctx, it, rec)
		switch {
		case errors.Is(err, snapshot.ErrConflict), errors.Is(err, snapshot.ErrExists):
			if it.discovered && it.attempts < maxAttempts {
				return r.retry(ctx, it)
			}
			r.leaveToNext(it)
			return nil
		case err != nil:
			return err
		}
	}
	r.count(rec, e, write)
	return nil
}

// write brings the record of a name into the catalog, or out of it.
func (r *reconciliation) write(ctx context.Context, it item, rec *snapshot.Record) error {
	switch {
	case rec == nil:
		return r.c.cfg.Records.Remove(ctx, it.rec)
	case it.rec == nil:
		return r.c.cfg.Records.Create(ctx, rec)
	}
	return r.c.cfg.Records.Update(ctx, rec)
}

// maxAttempts is how often a record is looked at that all replicas make at once, because the catalog was lost.
const maxAttempts = 5

// retry reconciles a name with the record that another replica has made of it.
func (r *reconciliation) retry(ctx context.Context, it item) error {
	rec, err := r.c.cfg.Records.Get(ctx, it.name)
	if snapshot.IsNotFound(err) {
		r.leaveToNext(it)
		return nil
	}
	if err != nil {
		return err
	}
	it.rec, it.attempts = rec, it.attempts+1
	return r.reconcileRecord(ctx, it)
}

// leaveToNext does nothing about a name that another replica is at work on.
func (r *reconciliation) leaveToNext(it item) {
	r.c.log.Debug("record changed meanwhile; left to the next reconcile", "snapshot", it.name)
	if it.rec != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.byState[it.rec.State()]++
	}
}

// count adds a record, and the findings about it, to the results.
func (r *reconciliation) count(rec *snapshot.Record, e *effect, written bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec != nil {
		r.byState[rec.State()]++
		if v := rec.Verification; v != nil && !v.Passed {
			r.damaged[rec.Name] = damaged{taken: rec.CreateTime, on: rec.DamagedOn()}
		}
		r.etcds.Note(&rec.Snapshot, r.begin)
		// A proof that a clock was ahead for would be the newest for as long.
		if at := rec.Proven(); at.After(r.proven.Proven()) && !snapshot.Ahead(at, r.begin) && len(rec.ReadyOn()) > 0 {
			r.proven = *rec
		}
	}
	if written {
		r.changes++
	}
	for _, backend := range e.retired {
		r.retired[backend]++
	}
	r.queueRepair(rec)
	r.cmp.count(e)
}

// reconcileSaving decides about a save whose owner is gone. It returns false when the owner is at work, or when a
// backend that it was writing to cannot be seen.
func (r *reconciliation) reconcileSaving(ctx context.Context, it item, rec *snapshot.Record, e *effect) (bool, error) {
	alive, err := r.c.ownerAlive(ctx, rec)
	if err != nil {
		return false, err
	}
	if alive || r.c.inflight.Has(rec.Name) || !r.allSeen(it, rec) {
		r.mu.Lock()
		r.busy[rec.Name] = true
		r.mu.Unlock()
		return false, r.commit(ctx, it, rec, e, false)
	}
	r.cmp.reconcileInterrupted(ctx, it, rec, e)
	return true, nil
}

// reconcileInterrupted makes the record of a save that was given up tell the truth about the backends.
func (x *comparison) reconcileInterrupted(ctx context.Context, it item, rec *snapshot.Record, e *effect) {
	why := rec.AssumeNothing()
	x.reconcileLocations(ctx, it, rec, e)
	for _, l := range rec.Locations() {
		if x.c.node.Elsewhere(l.Backend) {
			l.Error = fmt.Sprintf("%s; the replica of node %s alone can tell whether its directory has a copy", why,
				snapshot.NodeOf(l.Backend))
			rec.Found(l)
		}
	}
	rec.ConcludeInterrupted(why)
	for i := range e.on {
		e.on[i].updated = e.on[i].updated || e.on[i].unchanged
		e.on[i].unchanged = false
	}
}

// allSeen reports whether every configured backend that the record names is known: locations that cannot be seen are
// not forgotten.
func (r *reconciliation) allSeen(it item, rec *snapshot.Record) bool {
	for _, l := range rec.Locations() {
		i := r.cmp.indexOf(l.Backend)
		if r.c.repo(l.Backend) != nil && (i < 0 || !it.known[i]) {
			return false
		}
	}
	return true
}

// forgettable reports whether a record is of no use any more: no location holds anything, and it is old enough. A
// record of a failed save stays until its leftovers are swept, that of an upload fallback as long as a replica has
// it, and that of another program's file as long as there is the file, which may be empty.
func (r *reconciliation) forgettable(rec *snapshot.Record) bool {
	locations := rec.Locations()
	if rec.FallbackNode() != "" || rec.Trigger == snapshot.TriggerAdopted && len(locations) > 0 {
		return false
	}
	for _, l := range locations {
		if l.State == snapshot.StateReady || l.State == snapshot.StateSaving || l.Size > 0 {
			return false
		}
	}
	age := r.begin.Sub(rec.CreateTime)
	if len(rec.Failures()) > 0 && len(locations) > 0 {
		return age >= max(failedAge, r.c.cfg.LeftoverAge)
	}
	return age >= youngAge
}
