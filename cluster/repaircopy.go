package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/snapshotd/snapshotd/cluster/amend"
	"github.com/snapshotd/snapshotd/cluster/copying"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// copyRepair is the repair of one copy: of one snapshot on one backend.
type copyRepair struct {
	c      *Cluster
	rec    *snapshot.Record // as the catalog has it, and then as the repair leaves it
	target *repository.Repository
	was    snapshot.State // of the snapshot before

	done    bool    // the copy was made, or found to be there
	wrote   bool    // data was put on the target
	damaged []error // copies that turned out to be damaged on the way
}

// errGone ends the repair of a snapshot that is not to be repaired any more. It is no failure: a caller has deleted
// the snapshot while its bytes were copied.
var errGone = errors.New("the snapshot is gone, or is being deleted")

// repairCopy copies a snapshot to a backend, from the first other one whose copy proves to be good, and puts the
// location into the record. Nothing becomes visible on the target before size and checksum of the bytes that were
// read were right. A copy that is not needed any more is no error, and not done. A failed attempt changes nothing in
// the record but the damage that was found in sources.
//
// Several replicas may repair the same copy at once: they write the same bytes, and the record's revision decides whose
// change comes first.
func (c *Cluster) repairCopy(
	ctx context.Context, name string, target *repository.Repository,
) (p *copyRepair, err error) {
	p = &copyRepair{c: c, target: target}
	release, err := c.repairing.Take(ctx, "repair %s on backend %q", name, target.Name())
	if err != nil {
		return p, err
	}
	defer release()
	if p.rec, err = c.cfg.Records.Get(ctx, name); snapshot.IsNotFound(err) {
		return p, nil
	} else if err != nil {
		return p, err
	}
	// The queue may be older than the record: a delete, a save that ended or another replica's repair comes first.
	p.was = p.rec.State()
	l := p.rec.Location(target.Name())
	if !p.rec.Repairable() && !c.hasFallback(p.rec) || l != nil && l.State != snapshot.StateFailed {
		return p, nil
	}
	c.inflight.SetCopying(name)
	defer c.inflight.SetCopying("")
	ctx, trace := span.Run(ctx, "snapshot repair", span.Cluster.String(c.cfg.Name), span.Snapshot.String(name),
		span.Backend.String(target.Name()))
	defer func() { trace.End(err) }()

	err = p.run(ctx)
	if errors.Is(err, errGone) {
		p.withdraw(ctx)
		err = nil
	}
	if p.done || err != nil {
		c.observe(ctx, snapshot.Event{Type: snapshot.EventRepaired, Name: name, Backend: target.Name(), Err: err})
	}
	return p, err
}

// run makes the copy from the first source that turns out to be good. A damaged source is noted in the record on the
// way, and the next one is tried. When the target itself fails, no other source is tried: it would fail there, too.
func (p *copyRepair) run(ctx context.Context) error {
	if err := p.target.OpenVerified(ctx, true); err != nil {
		return err
	}
	var errs []error
	for _, src := range p.sources() {
		manifest, err := p.readSource(ctx, src)
		if err == nil {
			x := copying.Copying{Record: p.rec, From: src, To: p.target, Now: p.c.cfg.Now, Observe: p.c.observe}
			var sourceFailed bool
			sourceFailed, err = x.Run(ctx, manifest)
			p.wrote = p.wrote || x.Wrote()
			if err == nil {
				return p.record(ctx)
			}
			if !sourceFailed {
				return err // another source would fare no better
			}
			if snapshot.ReasonOf(err) == snapshot.ReasonChecksumMismatch {
				var damaged bool
				if damaged, err = x.Recheck(ctx, err); damaged {
					err = p.sourceFailed(ctx, src, err, err, true)
				}
			}
		}
		if ctx.Err() != nil {
			return snapshot.Cancelled(ctx, "repair %s on backend %q", p.rec.Name, p.target.Name())
		}
		errs = append(errs, err)
	}
	return p.noSource(errs)
}

// sources returns the other backends that hold the snapshot, in the order of the configuration, and the fallback.
func (p *copyRepair) sources() []*repository.Repository {
	var from []*repository.Repository
	for _, r := range p.c.repos {
		if l := p.rec.Location(r.Name()); r != p.target && l != nil && l.State == snapshot.StateReady {
			from = append(from, r)
		}
	}
	if p.c.hasFallback(p.rec) {
		from = append(from, p.c.fallback)
	}
	return from
}

// readSource returns the manifest beside a copy, which is copied byte for byte.
func (p *copyRepair) readSource(ctx context.Context, src *repository.Repository) ([]byte, error) {
	// The fallback has no marker: its directory belongs to this replica alone.
	if src != p.c.fallback {
		if err := src.OpenVerified(ctx, false); err != nil {
			return nil, err
		}
	}
	doc, err := src.CheckManifest(ctx, p.rec)
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonManifestUntrusted:
		return nil, p.sourceFailed(ctx, src, err, err, false)
	case snapshot.ReasonChecksumMismatch:
		return nil, p.sourceFailed(ctx, src, err, errBadManifest, false)
	}
	return doc, err
}

// sourceFailed notes in the record that a copy is not the snapshot's, and returns why. noted is the text in its
// location.
func (p *copyRepair) sourceFailed(ctx context.Context, src *repository.Repository, why, noted error, bytes bool) error {
	p.damaged = append(p.damaged, why)
	p.c.log.ErrorContext(ctx, "stored copy is damaged", "snapshot", p.rec.Name, "backend", src.Name(), "error", why)
	err := p.amend(ctx, func(rec *snapshot.Record, _ bool) error {
		if !rec.CopyFailed(src.Name(), noted, bytes, p.c.cfg.Now()) {
			return amend.ErrUnchanged
		}
		return nil
	})
	return errors.Join(why, err)
}

// noSource returns why no backend could give a good copy. It has the reason of the first source, because programs
// decide by it whether to try again.
func (p *copyRepair) noSource(errs []error) error {
	if distant := p.c.node.ReadyElsewhere(p.rec); len(errs) == 0 && len(distant) > 0 {
		return p.c.node.OnOther(distant, "repair %s on backend %q", p.rec.Name, p.target.Name())
	}
	if len(errs) == 0 {
		return snapshot.ReasonCopyMissing.
			New("repair %s on backend %q: no other backend has a copy to repair it from", p.rec.Name, p.target.Name()).
			On(p.target.Name())
	}
	backend := snapshot.BackendOf(errs[0])
	if backend == "" {
		backend = p.target.Name()
	}
	return snapshot.ReasonOf(errs[0]).New("repair %s on backend %q: no copy could be read", p.rec.Name, p.target.Name()).
		On(backend).Because(errors.Join(errs...))
}

// record puts the location of the new copy into the record. When the record was changed since it was read, a sweep
// may have been at work: then the copy must still be there.
func (p *copyRepair) record(ctx context.Context) error {
	name := p.target.Name()
	err := p.amend(ctx, func(rec *snapshot.Record, again bool) error {
		if l := rec.Location(name); l != nil && l.State == snapshot.StateDeleting {
			return snapshot.ReasonInterrupted.
				New("repair %s on backend %q: a reconcile was sweeping its leftovers", rec.Name, name).On(name)
		}
		// A sweep takes data without a manifest for the trace of a crash, and may have met this copy half-made.
		if again {
			if err := p.target.Whole(ctx, rec); err != nil {
				return err
			}
		}
		l := p.target.Location(rec, p.c.cfg.Now())
		l.Size = rec.StoredSize
		rec.Repaired(l, p.c.BackendNames())
		return nil
	})
	if err != nil {
		return err
	}
	p.done = true
	fault.Point("repair-recorded")
	p.c.log.InfoContext(ctx, "snapshot repaired", "snapshot", p.rec.Name, "backend", name, "state", p.rec.State().String())
	p.c.observe(ctx, snapshot.Event{
		Type: snapshot.EventLocationDone, Name: p.rec.Name, RequestID: p.rec.RequestID, Backend: name,
		Snapshot: p.rec.Clone(),
	})
	return nil
}

// amend changes the record of the snapshot that is repaired, unless it is gone or became another one.
func (p *copyRepair) amend(ctx context.Context, change func(rec *snapshot.Record, again bool) error) error {
	sum := p.rec.StoredSHA256
	rec, err := amend.Record(ctx, p.c.cfg.Records, p.rec, func(rec *snapshot.Record, again bool) error {
		// The first attempt works on the record that was just read. Only one that was read again can be another's.
		if again && (rec.State() == snapshot.StateDeleting || rec.StoredSHA256 != sum) {
			return errGone
		}
		return change(rec, again)
	})
	p.rec = rec
	if snapshot.IsNotFound(err) {
		return errGone
	}
	return err
}

// repairFailed notes in the record that an attempt has failed, and when the next one is due. The catalog has it, so
// that a new leader does not begin with all copies at once.
func (c *Cluster) repairFailed(
	ctx context.Context, rec *snapshot.Record, backend string, why error,
) (*snapshot.Record, error) {
	p := &copyRepair{c: c, rec: rec}
	err := p.amend(ctx, func(rec *snapshot.Record, _ bool) error {
		if !rec.RepairFailed(backend, why, c.cfg.Now(), repairPause) {
			return amend.ErrUnchanged
		}
		return nil
	})
	if errors.Is(err, errGone) {
		return p.rec, nil
	}
	return p.rec, err
}

// repairPause returns the pause after this many failed attempts: doubled each time, give or take a tenth, so that
// copies that failed together are not tried together for ever.
func repairPause(attempts int) time.Duration {
	return backoff.Spread(backoff.Delay(snapshot.FirstRepair, snapshot.MaxRepair, attempts), 0.1)
}

// withdraw removes the copy that was made of a snapshot that was deleted meanwhile, or is being deleted: the next
// reconcile would take it in again. A record can also be gone with a catalog that came back from the past. So the
// copy stays when the record is gone and any copy that it named is still there, or cannot be asked for.
func (p *copyRepair) withdraw(ctx context.Context) {
	if !p.wrote {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	current, err := p.c.cfg.Records.Get(ctx, p.rec.Name)
	switch {
	case snapshot.IsNotFound(err):
		if p.anyLeft(ctx) {
			return
		}
	case err != nil || current.State() != snapshot.StateDeleting:
		return
	}
	if err := p.target.DeleteFiles(ctx, snapshot.ManifestKey(p.rec.Name), p.rec.DataKey()); err != nil {
		p.c.log.WarnContext(ctx, "copy of a deleted snapshot not removed", "backend", p.target.Name(), "snapshot", p.rec.Name,
			"error", err)
	}
}

// anyLeft reports whether there may be a copy other than the one that was made.
func (p *copyRepair) anyLeft(ctx context.Context) bool {
	for _, src := range p.sources() {
		if src == p.c.fallback {
			continue
		}
		if err := src.Whole(ctx, p.rec); !snapshot.IsNotFound(err) {
			return true
		}
	}
	return false
}

// errBadManifest is the error of a location whose manifest is not its snapshot's.
var errBadManifest = fmt.Errorf("its manifest is damaged or another snapshot's")
