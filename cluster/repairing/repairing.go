// Package repairing repairs one copy of a snapshot: it brings the copy from the first source that proves to be good to
// the backend that lacks it, byte for byte, and notes in the record how that went.
package repairing

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/snapshotd/snapshotd/cluster/amend"
	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// cleanupTimeout bounds the work after a call was cancelled.
const cleanupTimeout = 20 * time.Second

// Records is the part of the catalog that is needed to repair a copy.
type Records = amend.Records

// Repair is the repair of one copy: of one snapshot on one backend.
type Repair struct {
	Record   *snapshot.Record // as the catalog has it, and then as the repair leaves it
	Target   *repository.Repository
	Backends []*repository.Repository // of the cluster, in the order of the configuration
	Fallback *repository.Repository   // of this replica; nil without one
	Node     snapshot.Node
	Records  Records
	Now      func() time.Time
	Observe  func(ctx context.Context, ev snapshot.Event)
	Logger   *slog.Logger

	done    bool
	wrote   bool // data was put on the target
	damaged []error

	source *repository.Repository // of the copy that is made
	copied int64                  // the generation of the record whose manifest was copied
}

// Done reports whether the copy was made, or found to be there.
func (r *Repair) Done() bool { return r.done }

// Damaged returns the errors of the copies that turned out to be damaged on the way.
func (r *Repair) Damaged() []error { return r.damaged }

// Run makes the copy. Nothing becomes visible on the target before size and checksum of the bytes that were read were
// right. A snapshot that was deleted meanwhile is no error, and not done. A failed attempt changes nothing in the
// record but the damage that was found in sources.
//
// Several replicas may repair the same copy at once: they write the same bytes, and the record's revision decides whose
// change comes first.
func (r *Repair) Run(ctx context.Context) error {
	err := r.run(ctx)
	if errors.Is(err, amend.ErrGone) {
		r.withdraw(ctx)
		return nil
	}
	return err
}

// run makes the copy from the first source that turns out to be good. A damaged source is noted in the record on the
// way, and the next one is tried. When the target itself fails, no other source is tried: it would fail there, too.
func (r *Repair) run(ctx context.Context) error {
	if err := r.Target.OpenVerified(ctx, true); err != nil {
		return err
	}
	var errs []error
	for _, src := range r.sources() {
		manifest, err := r.readSource(ctx, src)
		if err == nil {
			r.source = src
			r.noteCopied(r.Record)
			x := copying{rec: r.Record, from: src, to: r.Target, now: r.Now, observe: r.Observe}
			var sourceFailed bool
			sourceFailed, err = x.run(ctx, manifest)
			r.wrote = r.wrote || x.wrote
			if err == nil {
				return r.record(ctx)
			}
			if !sourceFailed {
				return err // another source would fare no better
			}
			if snapshot.ReasonOf(err) == snapshot.ReasonChecksumMismatch {
				var damaged bool
				if damaged, err = x.recheck(ctx, err); damaged {
					err = r.sourceFailed(ctx, src, err, err, true)
				}
			}
		}
		if ctx.Err() != nil {
			return snapshot.Cancelled(ctx, "repair %s on backend %q", r.Record.Name, r.Target.Name())
		}
		errs = append(errs, err)
	}
	return r.noSource(errs)
}

// sources returns the other backends that hold the snapshot, in the order of the configuration, and the fallback. A
// backend whose manifest is older than the record comes after the others.
func (r *Repair) sources() []*repository.Repository {
	var from, outdated []*repository.Repository
	for _, b := range r.Backends {
		switch l := r.Record.Location(b.Name()); {
		case b == r.Target || l == nil || l.State != snapshot.StateReady:
		case r.Record.Outdated(b.Name()):
			outdated = append(outdated, b)
		default:
			from = append(from, b)
		}
	}
	from = append(from, outdated...)
	if r.Fallback != nil && r.Node.HasFallback(r.Record) {
		from = append(from, r.Fallback)
	}
	return from
}

// readSource returns the manifest beside a copy, which is copied byte for byte.
func (r *Repair) readSource(ctx context.Context, src *repository.Repository) ([]byte, error) {
	// The fallback has no marker: its directory belongs to this replica alone.
	if src != r.Fallback {
		if err := src.OpenVerified(ctx, false); err != nil {
			return nil, err
		}
	}
	doc, err := src.CheckManifest(ctx, r.Record)
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonManifestUntrusted:
		return nil, r.sourceFailed(ctx, src, err, err, false)
	case snapshot.ReasonChecksumMismatch:
		return nil, r.sourceFailed(ctx, src, err, errors.New(snapshot.ManifestDamaged), false)
	}
	return doc, err
}

// sourceFailed notes in the record that a copy is not the snapshot's, and returns why. noted is the text in its
// location.
func (r *Repair) sourceFailed(ctx context.Context, src *repository.Repository, why, noted error, bytes bool) error {
	r.damaged = append(r.damaged, why)
	r.Logger.ErrorContext(ctx, "stored copy is damaged", "snapshot", r.Record.Name, "backend", src.Name(), "error", why)
	err := r.amend(ctx, func(rec *snapshot.Record, _ bool) error {
		if !rec.CopyFailed(src.Name(), noted, bytes, r.Now()) {
			return amend.ErrUnchanged
		}
		return nil
	})
	return errors.Join(why, err)
}

// noSource returns why no backend could give a good copy. It has the reason of the first source, because programs
// decide by it whether to try again.
func (r *Repair) noSource(errs []error) error {
	name, target := r.Record.Name, r.Target.Name()
	if distant := r.Node.ReadyElsewhere(r.Record); len(errs) == 0 && len(distant) > 0 {
		return r.Node.OnOther(distant, "repair %s on backend %q", name, target)
	}
	if len(errs) == 0 {
		return snapshot.ReasonCopyMissing.
			New("repair %s on backend %q: no other backend has a copy to repair it from", name, target).On(target)
	}
	return snapshot.ReasonOf(errs[0]).New("repair %s on backend %q: no copy could be read", name, target).
		On(cmp.Or(snapshot.BackendOf(errs[0]), target)).Because(errors.Join(errs...))
}

// record puts the location of the new copy into the record. When the record was changed since it was read, a sweep
// may have been at work: then the copy must still be there.
func (r *Repair) record(ctx context.Context) error {
	name := r.Target.Name()
	err := r.amend(ctx, func(rec *snapshot.Record, again bool) error {
		if l := rec.Location(name); l != nil && l.State == snapshot.StateDeleting {
			return snapshot.ReasonInterrupted.
				New("repair %s on backend %q: a reconcile was sweeping its leftovers", rec.Name, name).On(name)
		}
		// A sweep takes data without a manifest for the trace of a crash, and may have met this copy half-made.
		if again {
			if err := r.Target.Whole(ctx, rec); err != nil {
				return err
			}
			if err := r.renewManifest(ctx, rec); err != nil {
				return err
			}
		}
		l := r.Target.Location(rec, r.Now())
		l.Size = rec.StoredSize
		rec.Repaired(l, r.configured())
		// The new copy has the manifest of its source. The same update on a replica that reaches both writes them.
		rec.SetOutdated(name, rec.Outdated(r.source.Name()))
		return nil
	})
	if err != nil {
		return err
	}
	r.done = true
	fault.Point("repair-recorded")
	rec := r.Record
	r.Logger.InfoContext(ctx, "snapshot repaired", "snapshot", rec.Name, "backend", name, "state", rec.State().String())
	r.Observe(ctx, snapshot.Event{
		Type: snapshot.EventLocationDone, Name: rec.Name, RequestID: rec.RequestID, Backend: name, Snapshot: rec.Clone(),
	})
	return nil
}

// renewManifest copies the manifest once more when the record got another pin or other labels since: whoever set them
// wrote the manifests of the copies that were READY, and this one was not.
func (r *Repair) renewManifest(ctx context.Context, rec *snapshot.Record) error {
	if rec.Generation <= r.copied {
		return nil
	}
	doc, err := r.source.CheckManifest(ctx, rec)
	if err != nil {
		return snapshot.ReasonConflict.
			New("repair %s on backend %q: its pin or its labels were changed, and backend %q does not have the change yet",
				rec.Name, r.Target.Name(), r.source.Name()).On(r.Target.Name()).Because(err)
	}
	if err := r.Target.PutManifest(ctx, rec.Name, doc); err != nil {
		return err
	}
	r.noteCopied(rec)
	return nil
}

// noteCopied notes of which generation the record is whose manifest the source has given; 0 of an unknown earlier one.
func (r *Repair) noteCopied(rec *snapshot.Record) {
	if r.copied = rec.Generation; rec.Outdated(r.source.Name()) {
		r.copied = 0
	}
}

// configured returns the names of the cluster's backends.
func (r *Repair) configured() []string {
	names := make([]string, len(r.Backends))
	for i, b := range r.Backends {
		names[i] = b.Name()
	}
	return names
}

// amend changes the record of the snapshot that is repaired.
func (r *Repair) amend(ctx context.Context, change func(rec *snapshot.Record, again bool) error) (err error) {
	r.Record, err = amend.Snapshot(ctx, r.Records, r.Record, change)
	return err
}

// withdraw removes the copy that was made of a snapshot that was deleted meanwhile, or is being deleted: the next
// reconcile would take it in again. A record can also be gone with a catalog that came back from the past. So the
// copy stays when the record is gone and any copy that it named is still there, or cannot be asked for.
func (r *Repair) withdraw(ctx context.Context) {
	if !r.wrote {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	current, err := r.Records.Get(ctx, r.Record.Name)
	switch {
	case snapshot.IsNotFound(err):
		if r.anyLeft(ctx) {
			return
		}
	case err != nil || current.State() != snapshot.StateDeleting:
		return
	}
	if err := r.Target.DeleteFiles(ctx, snapshot.ManifestKey(r.Record.Name), r.Record.DataKey()); err != nil {
		r.Logger.WarnContext(ctx, "copy of a deleted snapshot not removed", "backend", r.Target.Name(),
			"snapshot", r.Record.Name, "error", err)
	}
}

// anyLeft reports whether there may be a copy other than the one that was made. A caller who deletes what the fallback
// has removes it there before the record.
func (r *Repair) anyLeft(ctx context.Context) bool {
	for _, src := range r.sources() {
		if err := src.Whole(ctx, r.Record); !snapshot.IsNotFound(err) {
			return true
		}
	}
	return false
}
