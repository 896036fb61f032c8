package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"

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

// mustBeStore makes sure that a backend is the store that it was; without the catalog nobody knows.
func (h *healing) mustBeStore(ctx context.Context, b Backend, create bool) error {
	unverified, err := h.openStore(ctx, b, storeCheck{create: create})
	if err == nil {
		err = unverified
	}
	return err
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
