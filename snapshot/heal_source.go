package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

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
