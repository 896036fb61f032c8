package snapshot

import (
	"bytes"
	"context"
	"errors"
	"maps"

	"go.opentelemetry.io/otel/attribute"
)

// UpdateRequest says what to change of a snapshot.
type UpdateRequest struct {
	Name   string
	Etag   string            // when set, only the record as it was read
	Labels map[string]string // replace all; nil leaves them
	Pinned *bool             // nil leaves it
}

// Update changes the labels of a snapshot and whether it is pinned, in the catalog first and then in the manifests, so that
// a catalog that is made anew has them, too. It returns the record also beside an error of a backend whose manifest could
// not be written: the same call again writes it. Beside an adopted snapshot nothing is written.
func (c *Cluster) Update(ctx context.Context, req UpdateRequest) (rec *Record, err error) {
	ctx, span := tracer.Start(ctx, "snapshot update")
	span.SetAttributes(attribute.String("cluster", c.cfg.Name), attribute.String("snapshot", req.Name))
	defer func() { endSpan(span, err) }()
	if err := ValidateLabels(req.Labels); err != nil {
		return nil, err
	}
	if rec, err = c.Get(ctx, req.Name); err != nil {
		return nil, err
	}
	if err := c.updatable(rec, req); err != nil {
		return nil, err
	}
	before := rec.Clone()
	if req.Labels != nil {
		rec.Labels = req.Labels
	}
	if req.Pinned != nil {
		rec.Pinned = *req.Pinned
	}
	if !maps.Equal(before.Labels, rec.Labels) || before.Pinned != rec.Pinned {
		if err := c.cfg.Catalog.Update(ctx, rec); err != nil {
			return nil, c.changedMeanwhile("update "+rec.Name, err)
		}
	}
	return rec, c.rewriteManifests(ctx, rec)
}

func (c *Cluster) updatable(rec *Record, req UpdateRequest) error {
	if err := checkEtag(rec, req.Etag); err != nil {
		return err
	}
	switch rec.State {
	case StateSaving:
		return c.saveInProgress("and " + rec.Name + " is what it saves")
	case StateDeleting:
		return &Error{Reason: ReasonConflict, Message: "update " + rec.Name + ": it is being deleted"}
	}
	return nil
}

// rewriteManifests writes the manifest of a snapshot anew on each backend that holds it.
func (c *Cluster) rewriteManifests(ctx context.Context, rec *Record) error {
	if rec.Trigger == TriggerAdopted {
		return nil
	}
	doc, err := encodeManifest(rec, c.cfg.Signer)
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range rec.Locations {
		b := c.backend(l.Backend)
		if l.State != StateReady || b == nil {
			continue
		}
		err := c.removable(ctx, b, rec) // the same must hold as for removing it: it is this snapshot's
		if err == nil || ReasonOf(err) == ReasonObjectLocked {
			err = b.Put(ctx, c.key(ManifestKey(rec.Name)), bytes.NewReader(doc), PutOptions{ContentType: jsonContentType, SizeHint: int64(len(doc))})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
