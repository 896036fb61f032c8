package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/internal/fault"
)

// healing is the repair of one copy: of one snapshot on one backend.
type healing struct {
	*Cluster
	rec    *Record // as the catalog has it, and then as the repair leaves it
	target Backend
	was    State // of the snapshot before

	done    bool    // the copy was made, or found to be there
	wrote   bool    // data was put on the target
	damaged []error // copies that turned out to be damaged on the way
}

// errUnchanged says that a record needs no change.
var errUnchanged = errors.New("unchanged")

// errGone ends the repair of a snapshot that is not to be repaired any more.
var errGone = errors.New("the snapshot is gone, or is being deleted")

// heal copies a snapshot to a backend, from the first other one whose copy proves to be good, and puts the location into the
// record. Nothing becomes visible on the target before size and checksum of what was read were right. What nobody has to do
// any more is no error, and not done. A failed attempt changes nothing in the record but what was learnt about sources.
//
// Several replicas may heal the same copy at once: they write the same bytes, and the record's revision decides whose
// change comes first.
func (c *Cluster) heal(ctx context.Context, name string, target Backend) (h *healing, err error) {
	h = &healing{Cluster: c, target: target}
	select {
	case c.repairing <- struct{}{}:
		defer func() { <-c.repairing }()
	case <-ctx.Done():
		return h, cancelled(ctx, fmt.Sprintf("repair %s on backend %q", name, target.Name()))
	}
	if h.rec, err = c.cfg.Catalog.Get(ctx, name); isNotFound(err) {
		return h, nil
	} else if err != nil {
		return h, err
	}
	h.was = h.rec.State
	if l := h.rec.Location(target.Name()); !repairable(h.rec) && !c.keeps(h.rec) || l != nil && l.State != StateFailed {
		return h, nil
	}
	c.setCopying(name)
	defer c.setCopying("")
	ctx, span := tracer.Start(ctx, "snapshot repair")
	defer func() { endSpan(span, err) }()
	span.SetAttributes(attribute.String("cluster", c.cfg.Name), attribute.String("snapshot", name), attribute.String("backend", target.Name()))

	err = h.run(ctx)
	if errors.Is(err, errGone) {
		h.withdraw(ctx)
		err = nil
	}
	if h.done || err != nil {
		c.cfg.Observer.Repaired(ctx, c.cfg.Name, target.Name(), err)
	}
	return h, err
}

// repairable reports whether a record is of a snapshot that copies can be made of.
func repairable(rec *Record) bool {
	return (rec.State == StateReady || rec.State == StatePartial) && rec.Trigger != TriggerAdopted &&
		rec.StoredSize > 0 && rec.StoredSHA256 != ""
}

func (c *Cluster) setCopying(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.copying = name
}

func (h *healing) run(ctx context.Context) error {
	if err := h.mustBeStore(ctx, h.target, true); err != nil {
		return err
	}
	var errs []error
	for _, src := range h.sources() {
		manifest, err := h.readSource(ctx, src)
		if err == nil {
			var tried *attempt
			if tried, err = h.copyFrom(ctx, src, manifest); err == nil {
				return h.record(ctx)
			}
			if !tried.source {
				return err // another source would fare no better
			}
			if ReasonOf(err) == ReasonChecksumMismatch {
				err = h.doubtSource(ctx, src, err)
			}
		}
		if ctx.Err() != nil {
			return cancelled(ctx, fmt.Sprintf("repair %s on backend %q", h.rec.Name, h.target.Name()))
		}
		errs = append(errs, err)
	}
	return h.noSource(errs)
}

// noSource returns why no backend could give a good copy.
func (h *healing) noSource(errs []error) error {
	e := &Error{
		Reason: ReasonCopyMissing, Backend: h.target.Name(),
		Message: fmt.Sprintf("repair %s on backend %q: no other backend has a copy to repair it from", h.rec.Name, h.target.Name()),
	}
	if len(errs) > 0 {
		e.Reason, e.Err = ReasonOf(errs[0]), errors.Join(errs...)
		if f, ok := errors.AsType[*Error](errs[0]); ok && f.Backend != "" {
			e.Backend = f.Backend
		}
		e.Message = fmt.Sprintf("repair %s on backend %q: no copy could be read", h.rec.Name, h.target.Name())
	}
	e.Retry = retryAfter(e.Reason)
	return e
}

// mustBeStore makes sure that a backend is the store that it was; without the catalog nobody knows.
func (h *healing) mustBeStore(ctx context.Context, b Backend, create bool) error {
	unverified, err := h.openStore(ctx, b, storeCheck{create: create})
	if err == nil {
		err = unverified
	}
	return err
}

// sources returns the other backends that hold the snapshot, in the order of the configuration.
func (h *healing) sources() []Backend {
	var from []Backend
	for _, b := range h.cfg.Backends {
		if l := h.rec.Location(b.Name()); b.Name() != h.target.Name() && l != nil && l.State == StateReady {
			from = append(from, b)
		}
	}
	if h.keeps(h.rec) {
		from = append(from, h.cfg.Kept)
	}
	return from
}

// readSource returns the manifest beside a copy, which goes with it byte for byte.
func (h *healing) readSource(ctx context.Context, src Backend) ([]byte, error) {
	if src != h.cfg.Kept {
		if err := h.mustBeStore(ctx, src, false); err != nil {
			return nil, err
		}
	}
	doc, err := h.checkManifest(ctx, src, h.rec)
	switch ReasonOf(err) {
	case ReasonManifestUntrusted:
		return nil, h.failSource(ctx, src, err, func(_ *Record, l *Location) { l.Error = err.Error() })
	case ReasonChecksumMismatch:
		return nil, h.failSource(ctx, src, err, func(_ *Record, l *Location) { l.Error = badManifest })
	}
	return doc, err
}

// failSource notes in the record that a copy is not what it was taken for, and returns why.
func (h *healing) failSource(ctx context.Context, src Backend, why error, mark func(*Record, *Location)) error {
	h.damaged = append(h.damaged, why)
	h.log.ErrorContext(ctx, "stored copy is damaged", "snapshot", h.rec.Name, "backend", src.Name(), "error", why)
	err := h.amend(ctx, func(rec *Record) error {
		l := rec.Location(src.Name())
		if l == nil || l.State != StateReady {
			return errUnchanged
		}
		l.State, l.UpdateTime = StateFailed, h.cfg.Now().UTC()
		mark(rec, l)
		return nil
	})
	return errors.Join(why, err)
}

// attempt is one try to copy from one source.
type attempt struct {
	source bool // it failed because of the source
}

// copyFrom brings data and manifest to the target, as far as they are not there.
func (h *healing) copyFrom(ctx context.Context, src Backend, manifest []byte) (tried *attempt, err error) {
	tried = &attempt{}
	there, err := h.look(ctx, h.target, h.rec)
	if err != nil {
		return tried, err
	}
	begin := h.cfg.Now()
	defer func() {
		if (!there.data || !there.manifest) && !tried.source {
			h.cfg.Observer.Wrote(ctx, h.target.Kind(), h.cfg.Now().Sub(begin), err)
		}
	}()
	if !there.data {
		if err := h.copyData(ctx, src, there, tried); err != nil {
			return tried, err
		}
		fault.Point("repair-data")
	}
	if !there.manifest {
		opts := PutOptions{ContentType: jsonContentType, SizeHint: int64(len(manifest))}
		if err := h.target.Put(ctx, h.key(ManifestKey(h.rec.Name)), bytes.NewReader(manifest), opts); err != nil {
			return tried, err // data without a manifest is nothing yet; the next attempt finds it
		}
		fault.Point("repair-manifest")
	}
	return tried, nil
}

func (h *healing) copyData(ctx context.Context, src Backend, there holding, tried *attempt) error {
	key := h.key(h.rec.DataKey())
	in, err := openRaw(ctx, src, key, &h.rec.Snapshot)
	if err != nil {
		tried.source = true
		return err
	}
	defer func() { _ = in.Close() }()
	err = h.target.Put(ctx, key, in, PutOptions{ContentType: dataContentType, SizeHint: h.rec.StoredSize, IfAbsent: !there.occupied})
	switch {
	case err == nil:
		h.wrote = true
		return nil
	case in.failed() != nil && ctx.Err() == nil:
		tried.source = true
		return in.failed()
	case errors.Is(err, ErrExists): // another replica was faster
		if again, lerr := h.look(ctx, h.target, h.rec); lerr == nil && again.data {
			return nil
		}
	}
	return err
}

// doubtSource reads a copy that seemed to be damaged once more: what a network did to it is not its fault. When it is
// damaged indeed, the record says so from now on.
func (h *healing) doubtSource(ctx context.Context, src Backend, first error) error {
	again, err := openRaw(ctx, src, h.key(h.rec.DataKey()), &h.rec.Snapshot)
	if err != nil {
		return err
	}
	defer func() { _ = again.Close() }()
	_, _ = io.Copy(io.Discard, again)
	switch {
	case again.failed() == nil:
		return &Error{
			Reason: ReasonBackendUnavailable, Backend: src.Name(), Err: first, Retry: retryAfter(ReasonBackendUnavailable),
			Message: fmt.Sprintf("backend %q gave a copy that was damaged on the way, and a good one when asked again", src.Name()),
			Hint:    "check the network, and this machine's memory",
		}
	case ReasonOf(again.failed()) != ReasonChecksumMismatch:
		return again.failed()
	}
	return h.failSource(ctx, src, first, func(rec *Record, l *Location) {
		l.Error = first.Error()
		rec.setDamaged(src.Name(), true)
	})
}

// record puts the location of the new copy into the record. When somebody has changed the record since it was read, a sweep
// may have been at work: then the copy must still be there.
func (h *healing) record(ctx context.Context) error {
	first := true
	err := h.amend(ctx, func(rec *Record) error {
		if l := rec.Location(h.target.Name()); l != nil && l.State == StateDeleting {
			return &Error{
				Reason: ReasonInterrupted, Backend: l.Backend, Retry: retryAfter(ReasonInterrupted),
				Message: fmt.Sprintf("repair %s on backend %q: a reconcile was sweeping what lay there", rec.Name, l.Backend),
			}
		}
		if !first {
			if err := h.stillHeld(ctx, rec); err != nil {
				return err
			}
		}
		first = false
		h.setReady(rec)
		return nil
	})
	if err != nil {
		return err
	}
	h.done = true
	fault.Point("repair-recorded")
	h.log.InfoContext(ctx, "snapshot repaired", "snapshot", h.rec.Name, "backend", h.target.Name(), "state", h.rec.State.String())
	shown := h.rec.Snapshot.Clone()
	h.cfg.Events.Publish(Event{
		Type: EventLocationDone, Time: h.cfg.Now(), Cluster: h.cfg.Name, Name: shown.Name, RequestID: h.rec.RequestID,
		Backend: h.target.Name(), Snapshot: shown,
	})
	return nil
}

func (h *healing) setReady(rec *Record) {
	name := h.target.Name()
	l := rec.Location(name)
	if l == nil {
		rec.Locations = append(rec.Locations, Location{Backend: name})
		order := h.BackendNames()
		slices.SortStableFunc(rec.Locations, func(a, b Location) int {
			return slices.Index(order, a.Backend) - slices.Index(order, b.Backend)
		})
		l = rec.Location(name)
	}
	*l = Location{
		Backend: name, Kind: h.target.Kind(), URI: h.target.URI(h.key(rec.DataKey())),
		Size: rec.StoredSize, State: StateReady, UpdateTime: h.cfg.Now().UTC(),
	}
	rec.setDamaged(name, false)
	rec.Failures = slices.DeleteFunc(rec.Failures, func(f Failure) bool { return f.Backend == name })
	rec.forgetRepairs()
	rec.KeptOn = ""
}

// stillHeld asks the target for both objects.
func (h *healing) stillHeld(ctx context.Context, rec *Record) error {
	o, err := h.target.Stat(ctx, h.key(rec.DataKey()))
	if err == nil && o.Size != rec.StoredSize {
		err = fmt.Errorf("backend %q: the copy has %d bytes instead of %d", h.target.Name(), o.Size, rec.StoredSize)
	}
	if err == nil {
		_, err = h.target.Stat(ctx, h.key(ManifestKey(rec.Name)))
	}
	return err
}

// amend changes the record on condition that it is as it was read, and looks again when somebody was faster.
func (h *healing) amend(ctx context.Context, change func(*Record) error) error {
	for range 4 {
		next := h.rec.Clone()
		if err := change(next); errors.Is(err, errUnchanged) {
			return nil
		} else if err != nil {
			return err
		}
		setState(&next.Snapshot)
		if next.State == StateReady {
			next.Failures = nil
		}
		next.tellKept()
		err := h.cfg.Catalog.Update(ctx, next)
		if err == nil {
			h.rec = next
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		current, err := h.cfg.Catalog.Get(ctx, h.rec.Name)
		switch {
		case isNotFound(err):
			return errGone
		case err != nil:
			return err
		case current.State == StateDeleting || current.StoredSHA256 != h.rec.StoredSHA256:
			return errGone
		}
		h.rec = current
	}
	return &Error{
		Reason: ReasonConflict, Backend: h.target.Name(), Retry: retryAfter(ReasonConflict),
		Message: fmt.Sprintf("repair %s: its record was changed again and again meanwhile", h.rec.Name),
	}
}

// withdraw removes the copy that was made of a snapshot that was deleted meanwhile, or is being deleted: the next reconcile
// would take it in again. A record can also be gone with a catalog that came back from the past; so the copy stays when the
// record is gone and any copy that it named is still there, or cannot be asked for.
func (h *healing) withdraw(ctx context.Context) {
	if !h.wrote {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	current, err := h.cfg.Catalog.Get(ctx, h.rec.Name)
	switch {
	case isNotFound(err):
		if h.anyLeft(ctx) {
			return
		}
	case err != nil || current.State != StateDeleting:
		return
	}
	for _, key := range []string{ManifestKey(h.rec.Name), h.rec.DataKey()} {
		if err := h.target.Delete(ctx, h.key(key)); err != nil {
			h.log.WarnContext(ctx, "copy of a deleted snapshot not removed", "backend", h.target.Name(), "snapshot", h.rec.Name, "error", err)
			return
		}
	}
}

// anyLeft reports whether a copy may be there that is not the one that was made.
func (h *healing) anyLeft(ctx context.Context) bool {
	return slices.ContainsFunc(h.sources(), func(src Backend) bool {
		if src == h.cfg.Kept {
			return false
		}
		_, err := src.Stat(ctx, h.key(ManifestKey(h.rec.Name)))
		return !isNotFound(err)
	})
}

// failedAttempt notes in the record that an attempt has failed, and when the next one is due.
func (h *healing) failedAttempt(ctx context.Context, now time.Time, why error) error {
	err := h.amend(ctx, func(rec *Record) error {
		l := rec.Location(h.target.Name())
		if l == nil || l.State != StateFailed {
			return errUnchanged
		}
		rec.addAttempt(h.target.Name(), now, why)
		return nil
	})
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}
