package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/snapshotd/snapshotd/cluster/amend"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Update changes the labels of a snapshot and whether it is pinned, in the catalog first and then in the manifests,
// so that a catalog that is made anew has them, too. It returns the record also beside an error of a backend whose
// manifest could not be written: the same call again writes it. Beside an adopted snapshot nothing is written.
func (c *Cluster) Update(ctx context.Context, req UpdateRequest) (rec *snapshot.Record, err error) {
	ctx, trace := span.Run(ctx, "snapshot update", span.Cluster.String(c.cfg.Name), span.Snapshot.String(req.Name))
	defer func() { trace.End(err) }()
	if err := snapshot.ValidateLabels(req.Labels); err != nil {
		return nil, err
	}
	if rec, err = c.Get(ctx, req.Name); err != nil {
		return nil, err
	}
	if err := updatable(rec, req); err != nil {
		return nil, err
	}
	// The catalog comes first: its transaction decides which of two callers was faster. A manifest that could not be
	// written is older than the record then, and is noticed as such.
	before := rec.Copy()
	if req.Labels != nil {
		rec.Labels = req.Labels
	}
	if req.Pinned != nil {
		rec.Pinned = *req.Pinned
	}
	if !maps.Equal(before.Labels, rec.Labels) || before.Pinned != rec.Pinned {
		// The generation makes an older manifest recognizable when it is put back.
		rec.Generation++
		for _, backend := range c.node.ReadyElsewhere(rec) {
			rec.SetOutdated(backend, true)
		}
		if err := c.cfg.Records.Update(ctx, rec); err != nil {
			return nil, snapshot.ChangedMeanwhile(err, "update %s", rec.Name)
		}
	}
	if rec.Trigger == snapshot.TriggerAdopted {
		return rec, c.notePin(ctx, rec, req.Pinned)
	}
	return rec, c.rewriteManifests(ctx, rec, req.Pinned)
}

// updatable refuses a change that the manifests could not follow.
func updatable(rec *snapshot.Record, req UpdateRequest) error {
	if err := rec.CheckEtag(req.Etag); err != nil {
		return err
	}
	if rec.State() == snapshot.StateDeleting {
		return snapshot.ReasonConflict.New("update %s: it is being deleted", rec.Name).Final()
	}
	// A replica that does not have the fallback cannot write its manifest, and without the manifest's generation no
	// backend would take it.
	if node := rec.FallbackNode(); node != "" && rec.State() == snapshot.StateFailed {
		return snapshot.ReasonConflict.New("update %s: it is on node %q alone, until a backend takes it", rec.Name, node).
			Final().Advise("make a backend take it, and the same update then: snapshotd reconcile shows why none does")
	}
	return rec.CheckIdle()
}

// rewriteManifests writes the change of a snapshot into its manifest on each backend that holds it. It cannot be
// written in a directory of another node: the replica there takes it from a shared backend at its next reconcile, and
// without one must be asked.
func (c *Cluster) rewriteManifests(ctx context.Context, rec *snapshot.Record, pinned *bool) error {
	var errs []error
	var written []string
	shared := false // whether a replica elsewhere finds the change on a backend that it reaches
	for _, backend := range rec.ReadyOn() {
		repo := c.repo(backend)
		if repo == nil {
			continue
		}
		// Written also when nothing has changed: the call before this one may have failed half-way.
		err := repo.Amend(ctx, rec, pinned)
		if errs = append(errs, err); err == nil {
			written = append(written, backend)
			shared = shared || !local(repo)
		}
	}
	current := func(b string) bool { return !rec.Outdated(b) }
	if distant := slices.DeleteFunc(c.node.ReadyElsewhere(rec), current); len(distant) > 0 && !shared {
		errs = append(errs, c.node.OnOther(distant,
			"update %s: the catalog has the change, and a manifest has not; the same update there writes it", rec.Name))
	}
	return errors.Join(append(errs, c.noteWritten(ctx, rec, written))...)
}

// notePin makes the backends of an adopted snapshot say whether it is pinned. Only a call that names the pin changes
// that: the record may say anything.
func (c *Cluster) notePin(ctx context.Context, rec *snapshot.Record, pinned *bool) error {
	if pinned == nil {
		return nil
	}
	var errs []error
	for _, backend := range rec.Backends() {
		repo := c.repo(backend)
		switch {
		case c.node.Elsewhere(backend):
			errs = append(errs,
				c.node.OnOther([]string{backend}, "update %s: the catalog has the change, and the backend has not", rec.Name))
		case repo == nil:
		case *pinned:
			errs = append(errs, repo.Pin(ctx, rec))
		default:
			errs = append(errs, repo.Unpin(ctx, rec))
		}
	}
	return errors.Join(errs...)
}

// noteWritten notes the manifests that are up to date again.
func (c *Cluster) noteWritten(ctx context.Context, rec *snapshot.Record, written []string) error {
	if !slices.ContainsFunc(written, rec.Outdated) {
		return nil
	}
	now, err := amend.Record(ctx, c.cfg.Records, rec, func(next *snapshot.Record, again bool) error {
		if again && next.Generation != rec.Generation {
			return amend.ErrUnchanged // changed once more meanwhile
		}
		for _, backend := range written {
			next.SetOutdated(backend, false)
		}
		return nil
	})
	if err == nil {
		*rec = *now
	}
	return err
}
