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
func (c *Cluster) repairCopy(ctx context.Context, name string, target *repository.Repository) (h *copyRepair, err error) {
	h = &copyRepair{c: c, target: target}
	release, err := c.repairing.take(ctx, "repair %s on backend %q", name, target.Name())
	if err != nil {
		return h, err
	}
	defer release()
	if h.rec, err = c.cfg.Records.Get(ctx, name); snapshot.IsNotFound(err) {
		return h, nil
	} else if err != nil {
		return h, err
	}
	// The queue may be older than the record: a delete, a save that ended or another replica's repair comes first.
	h.was = h.rec.State()
	if l := h.rec.Location(target.Name()); !h.rec.Repairable() && !c.hasFallback(h.rec) || l != nil && l.State != snapshot.StateFailed {
		return h, nil
	}
	c.inflight.SetCopying(name)
	defer c.inflight.SetCopying("")
	ctx, trace := span.Run(ctx, "snapshot repair", span.Cluster.String(c.cfg.Name), span.Snapshot.String(name),
		span.Backend.String(target.Name()))
	defer func() { trace.End(err) }()

	err = h.run(ctx)
	if errors.Is(err, errGone) {
		h.withdraw(ctx)
		err = nil
	}
	if h.done || err != nil {
		c.observe(ctx, snapshot.Event{Type: snapshot.EventRepaired, Name: name, Backend: target.Name(), Err: err})
	}
	return h, err
}

// run makes the copy from the first source that turns out to be good. A damaged source is noted in the record on the
// way, and the next one is tried. When the target itself fails, no other source is tried: it would fail there, too.
func (h *copyRepair) run(ctx context.Context) error {
	if err := h.target.Verified(ctx, true); err != nil {
		return err
	}
	var errs []error
	for _, src := range h.sources() {
		manifest, err := h.readSource(ctx, src)
		if err == nil {
			x := copying.Copying{Record: h.rec, From: src, To: h.target, Now: h.c.cfg.Now, Observe: h.c.observe}
			var sourceFailed bool
			sourceFailed, err = x.Run(ctx, manifest)
			h.wrote = h.wrote || x.Wrote()
			if err == nil {
				return h.record(ctx)
			}
			if !sourceFailed {
				return err // another source would fare no better
			}
			if snapshot.ReasonOf(err) == snapshot.ReasonChecksumMismatch {
				var damaged bool
				if damaged, err = x.Recheck(ctx, err); damaged {
					err = h.sourceFailed(ctx, src, err, err, true)
				}
			}
		}
		if ctx.Err() != nil {
			return snapshot.Cancelled(ctx, "repair %s on backend %q", h.rec.Name, h.target.Name())
		}
		errs = append(errs, err)
	}
	return h.noSource(errs)
}

// sources returns the other backends that hold the snapshot, in the order of the configuration, and the fallback.
func (h *copyRepair) sources() []*repository.Repository {
	var from []*repository.Repository
	for _, r := range h.c.repos {
		if l := h.rec.Location(r.Name()); r != h.target && l != nil && l.State == snapshot.StateReady {
			from = append(from, r)
		}
	}
	if h.c.hasFallback(h.rec) {
		from = append(from, h.c.fallback)
	}
	return from
}

// readSource returns the manifest beside a copy, which is copied byte for byte.
func (h *copyRepair) readSource(ctx context.Context, src *repository.Repository) ([]byte, error) {
	// The fallback has no marker: its directory belongs to this replica alone.
	if src != h.c.fallback {
		if err := src.Verified(ctx, false); err != nil {
			return nil, err
		}
	}
	doc, err := src.CheckManifest(ctx, h.rec)
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonManifestUntrusted:
		return nil, h.sourceFailed(ctx, src, err, err, false)
	case snapshot.ReasonChecksumMismatch:
		return nil, h.sourceFailed(ctx, src, err, errBadManifest, false)
	}
	return doc, err
}

// sourceFailed notes in the record that a copy is not the snapshot's, and returns why. noted is the text in its
// location.
func (h *copyRepair) sourceFailed(ctx context.Context, src *repository.Repository, why, noted error, bytes bool) error {
	h.damaged = append(h.damaged, why)
	h.c.log.ErrorContext(ctx, "stored copy is damaged", "snapshot", h.rec.Name, "backend", src.Name(), "error", why)
	err := h.amend(ctx, func(rec *snapshot.Record, _ bool) error {
		if !rec.CopyFailed(src.Name(), noted, bytes, h.c.cfg.Now()) {
			return amend.ErrUnchanged
		}
		return nil
	})
	return errors.Join(why, err)
}

// noSource returns why no backend could give a good copy. It has the reason of the first source, because programs
// decide by it whether to try again.
func (h *copyRepair) noSource(errs []error) error {
	if distant := h.c.node.HeldElsewhere(h.rec); len(errs) == 0 && len(distant) > 0 {
		return h.c.node.OnOther(distant, "repair %s on backend %q", h.rec.Name, h.target.Name())
	}
	if len(errs) == 0 {
		return snapshot.ReasonCopyMissing.
			New("repair %s on backend %q: no other backend has a copy to repair it from", h.rec.Name, h.target.Name()).On(h.target.Name())
	}
	backend := snapshot.BackendOf(errs[0])
	if backend == "" {
		backend = h.target.Name()
	}
	return snapshot.ReasonOf(errs[0]).New("repair %s on backend %q: no copy could be read", h.rec.Name, h.target.Name()).
		On(backend).Because(errors.Join(errs...))
}

// record puts the location of the new copy into the record. When the record was changed since it was read, a sweep
// may have been at work: then the copy must still be there.
func (h *copyRepair) record(ctx context.Context) error {
	name := h.target.Name()
	err := h.amend(ctx, func(rec *snapshot.Record, again bool) error {
		if l := rec.Location(name); l != nil && l.State == snapshot.StateDeleting {
			return snapshot.ReasonInterrupted.New("repair %s on backend %q: a reconcile was sweeping its leftovers", rec.Name, name).On(name)
		}
		// A sweep takes data without a manifest for the trace of a crash, and may have met this copy half-made.
		if again {
			if err := h.target.Whole(ctx, rec); err != nil {
				return err
			}
		}
		l := h.target.Location(rec, h.c.cfg.Now())
		l.Size = rec.StoredSize
		rec.Repaired(l, h.c.BackendNames())
		return nil
	})
	if err != nil {
		return err
	}
	h.done = true
	fault.Point("repair-recorded")
	h.c.log.InfoContext(ctx, "snapshot repaired", "snapshot", h.rec.Name, "backend", name, "state", h.rec.State().String())
	h.c.observe(ctx, snapshot.Event{
		Type: snapshot.EventLocationDone, Name: h.rec.Name, RequestID: h.rec.RequestID, Backend: name, Snapshot: h.rec.Clone(),
	})
	return nil
}

// amend changes the record of the snapshot that is repaired, unless it is gone or became another one.
func (h *copyRepair) amend(ctx context.Context, change func(rec *snapshot.Record, again bool) error) error {
	sum := h.rec.StoredSHA256
	rec, err := amend.Record(ctx, h.c.cfg.Records, h.rec, func(rec *snapshot.Record, again bool) error {
		// The first attempt works on the record that was just read. Only one that was read again can be another's.
		if again && (rec.State() == snapshot.StateDeleting || rec.StoredSHA256 != sum) {
			return errGone
		}
		return change(rec, again)
	})
	h.rec = rec
	if snapshot.IsNotFound(err) {
		return errGone
	}
	return err
}

// repairFailed notes in the record that an attempt has failed, and when the next one is due. The catalog has it, so
// that a new leader does not begin with all copies at once.
func (c *Cluster) repairFailed(ctx context.Context, rec *snapshot.Record, backend string, why error) (*snapshot.Record, error) {
	h := &copyRepair{c: c, rec: rec}
	err := h.amend(ctx, func(rec *snapshot.Record, _ bool) error {
		if !rec.RepairFailed(backend, why, c.cfg.Now(), repairPause) {
			return amend.ErrUnchanged
		}
		return nil
	})
	if errors.Is(err, errGone) {
		return h.rec, nil
	}
	return h.rec, err
}

// repairPause returns the pause after this many failed attempts: doubled each time, give or take a tenth, so that
// copies that failed together are not tried together for ever.
func repairPause(attempts int) time.Duration {
	return backoff.Spread(backoff.Delay(snapshot.FirstRepair, snapshot.MaxRepair, attempts), 0.1)
}

// withdraw removes the copy that was made of a snapshot that was deleted meanwhile, or is being deleted: the next
// reconcile would take it in again. A record can also be gone with a catalog that came back from the past. So the
// copy stays when the record is gone and any copy that it named is still there, or cannot be asked for.
func (h *copyRepair) withdraw(ctx context.Context) {
	if !h.wrote {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	current, err := h.c.cfg.Records.Get(ctx, h.rec.Name)
	switch {
	case snapshot.IsNotFound(err):
		if h.anyLeft(ctx) {
			return
		}
	case err != nil || current.State() != snapshot.StateDeleting:
		return
	}
	if err := h.target.Undo(ctx, snapshot.ManifestKey(h.rec.Name), h.rec.DataKey()); err != nil {
		h.c.log.WarnContext(ctx, "copy of a deleted snapshot not removed", "backend", h.target.Name(), "snapshot", h.rec.Name, "error", err)
	}
}

// anyLeft reports whether there may be a copy other than the one that was made.
func (h *copyRepair) anyLeft(ctx context.Context) bool {
	for _, src := range h.sources() {
		if src == h.c.fallback {
			continue
		}
		if err := src.Whole(ctx, h.rec); !snapshot.IsNotFound(err) {
			return true
		}
	}
	return false
}

// errBadManifest is the error of a location whose manifest is not its snapshot's.
var errBadManifest = fmt.Errorf("its manifest is damaged or another snapshot's")
