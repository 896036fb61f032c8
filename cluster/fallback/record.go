package fallback

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// read returns an entry of the fallback with what its manifest says.
func (f *Fallback) read(ctx context.Context, e repository.Entry) *Snapshot {
	found, err := f.cfg.Place.Record(ctx, e)
	if err == nil && found.Trigger == snapshot.TriggerAdopted {
		err = errors.New(snapshot.ManifestMissing) // nothing but a save puts anything there
	}
	if err != nil {
		return &Snapshot{entry: e, why: err}
	}
	return &Snapshot{entry: e, found: found}
}

// reconcileOne decides about one snapshot in the fallback. It returns the proof that the snapshot need not stay, and
// has made its record say so then; empty when it stays, and its record says that it is here.
func (f *Fallback) reconcileOne(ctx context.Context, k *Snapshot, ahead []*Snapshot) (proof string, err error) {
	rec, err := f.cfg.Records.Get(ctx, k.entry.Name)
	switch {
	case errors.Is(err, snapshot.ErrBadRecord):
		f.tellStuck(ctx, k, err)
		return "", nil
	case snapshot.IsNotFound(err):
		rec = nil
	case err != nil:
		return "", err
	default:
		// A process that reads its configuration anew may save with the one before.
		if saving, err := f.isSaved(ctx, rec); saving || err != nil {
			return "", err
		}
	}
	k.ended = k.ended || rec != nil && rec.TimelineEnded()
	proof, err = f.proof(ctx, k, rec, ahead)
	switch {
	case err != nil:
		return "", err
	case proof != "":
		return proof, f.giveUp(ctx, k, rec)
	case k.found == nil:
		f.tellStuck(ctx, k, k.why)
		return "", nil
	case rec == nil:
		return "", f.create(ctx, k)
	}
	return "", f.agree(ctx, k, rec)
}

// isSaved reports whether the snapshot of a record is being saved just now.
func (f *Fallback) isSaved(ctx context.Context, rec *snapshot.Record) (bool, error) {
	if rec.State() != snapshot.StateSaving {
		return false, nil
	}
	return f.cfg.OwnerAlive(ctx, rec)
}

// giveUp makes the record of a snapshot that need not stay say so, before its files are removed. The record may name
// another node: the disk came back under another name, and is what proves who has the snapshot.
func (f *Fallback) giveUp(ctx context.Context, k *Snapshot, rec *snapshot.Record) error {
	if rec == nil || rec.FallbackNode() == "" { // a reconcile may have found it on a backend since
		return nil
	}
	same := k.found != nil && rec.StoredSHA256 == k.found.StoredSHA256
	if rec.FallbackNode() != f.cfg.Node && !same {
		return nil
	}
	if k.found == nil && f.node.HasFallback(rec) {
		rec.LoseFallback()
	} else {
		rec.SetFallback("")
	}
	return f.cfg.Records.Update(ctx, rec)
}

// drop removes the files of a snapshot in the fallback.
func (f *Fallback) drop(ctx context.Context, e repository.Entry, why string) error {
	if err := f.cfg.Place.RemoveEntry(ctx, e); err != nil {
		return err
	}
	delete(f.stuck, e.Name)
	f.cfg.Logger.InfoContext(ctx, "snapshot is not kept here any more", "snapshot", e.Name, "why", why)
	return nil
}

// tellStuck logs why a snapshot stays in the fallback and cannot be delivered now, once for each reason.
func (f *Fallback) tellStuck(ctx context.Context, k *Snapshot, why error) {
	if f.stuck[k.entry.Name] == why.Error() {
		return
	}
	f.stuck[k.entry.Name] = why.Error()
	f.cfg.Logger.WarnContext(ctx, "snapshot stays in the upload fallback, and cannot be delivered",
		"snapshot", k.entry.Name, "error", why)
}

// create makes the record of a snapshot that the catalog does not know: it was down, or came back from the past.
func (f *Fallback) create(ctx context.Context, k *Snapshot) error {
	rec := k.found.Copy()
	rec.FoundAgain(func() string { return f.cfg.LiveEtcd(ctx) }, f.cfg.Now())
	// The fallback is no location: it is this replica's own, and only this replica can read it.
	rec.Drop(func(snapshot.Location) bool { return true })
	if rec.SetFallback(f.cfg.Node); k.ended {
		rec.EndTimeline()
	}
	f.expect(rec)
	if err := f.cfg.Records.Create(ctx, rec); err != nil {
		return err
	}
	k.Record = rec
	return nil
}

// agree makes a record say that its snapshot is in the fallback of this replica.
func (f *Fallback) agree(ctx context.Context, k *Snapshot, rec *snapshot.Record) error {
	switch state := rec.State(); {
	case rec.StoredSHA256 != "" && rec.StoredSHA256 != k.found.StoredSHA256:
		f.tellStuck(ctx, k, errors.New("the catalog has another snapshot under its name"))
		return nil
	case state != snapshot.StateFailed && state != snapshot.StateSaving:
		f.tellStuck(ctx, k, fmt.Errorf("the catalog says %s, and no backend of this replica shows it", state))
		return nil
	}
	next := rec.Copy()
	changed := next.Keep(f.cfg.Node, k.found)
	if k.ended && next.EndTimeline() {
		changed = true
	}
	if rec.SupersededBy() != "" {
		waits, err := f.heirSaves(ctx, rec)
		if errors.Is(err, snapshot.ErrBadRecord) {
			f.tellStuck(ctx, k, err)
			return nil
		}
		if waits || err != nil {
			return err
		}
		// What the other save has stored, if anything, does not make this snapshot useless.
		next.Reinstate()
		changed = true
	}
	if f.expect(next) || changed {
		if err := f.cfg.Records.Update(ctx, next); err != nil {
			return err
		}
	}
	k.Record = next
	return nil
}

// heirSaves reports whether the save that took the request of a record over is under way.
func (f *Fallback) heirSaves(ctx context.Context, rec *snapshot.Record) (bool, error) {
	heir, err := f.cfg.Requests.ByRequestID(ctx, rec.RequestID)
	if snapshot.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return f.isSaved(ctx, heir)
}

// expect makes a record name the backends of the cluster when it names none that is configured: the catalog did not
// know it, or all backends were replaced since.
func (f *Fallback) expect(rec *snapshot.Record) (changed bool) {
	named := func(r *repository.Repository) bool { return rec.Location(r.Name()) != nil }
	if slices.ContainsFunc(f.cfg.Backends, named) {
		return false
	}
	for _, r := range f.cfg.Backends {
		l := r.Location(rec, f.cfg.Now())
		l.Error = fmt.Sprintf("backend %q has not taken it yet", r.Name())
		rec.Missed(l, snapshot.ReasonCopyMissing)
	}
	return true
}

// tellLost makes records that name this replica's fallback, which does not have their snapshot, say that it is lost:
// the disk is not the one that it was. A process looks once, at its start.
func (f *Fallback) tellLost(ctx context.Context) error {
	if f.lostTold {
		return nil
	}
	for rec, err := range f.cfg.Records.Scan(ctx) {
		switch {
		case errors.Is(err, snapshot.ErrBadRecord):
			continue
		case err != nil:
			return err
		case !f.node.HasFallback(rec):
			continue
		}
		// The record is older than this look at the disk, so a save that ends just now is not met half-way.
		if g, err := f.cfg.Place.ListOne(ctx, rec); err != nil {
			return err
		} else if len(g.Objects) > 0 {
			continue
		}
		rec.LoseFallback()
		if err := f.cfg.Records.Update(ctx, rec); errors.Is(err, snapshot.ErrConflict) {
			continue // another process of this node is at work
		} else if err != nil {
			return err
		}
		f.cfg.Logger.ErrorContext(ctx, "snapshot that no backend took is lost: it was kept here, and is not on this disk",
			"snapshot", rec.Name, "at", f.cfg.Place.URI(rec.DataKey()))
	}
	f.lostTold = true
	return nil
}

// Delete removes a snapshot that a caller deletes from the fallback, if it is here, and first makes its record say so.
// Until release is called, which is when the record is gone, nothing here is looked at. Another snapshot that has the
// same name stays. A snapshot that is not here, and is not being saved, does not come here any more: its deletion does
// not wait.
func (f *Fallback) Delete(ctx context.Context, rec *snapshot.Record) (release func(), err error) {
	entries, err := f.cfg.Place.Entries(ctx)
	if err != nil {
		return nil, err
	}
	here := func(e repository.Entry) bool { return e.Name == rec.Name }
	if rec.FallbackNode() != f.cfg.Node && !slices.ContainsFunc(entries, here) {
		return func() {}, nil
	}
	release, err = f.take(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.delete(ctx, rec); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// delete is [Fallback.Delete] in its turn.
func (f *Fallback) delete(ctx context.Context, rec *snapshot.Record) error {
	entries, err := f.cfg.Place.Entries(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(entries, func(e repository.Entry) bool { return e.Name == rec.Name })
	var k *Snapshot
	if i >= 0 {
		k = f.read(ctx, entries[i])
		if k.found != nil && rec.StoredSHA256 != "" && rec.StoredSHA256 != k.found.StoredSHA256 {
			return nil
		}
	}
	if rec.FallbackNode() == f.cfg.Node {
		rec.SetFallback("")
		if err := f.cfg.Records.Update(ctx, rec); err != nil {
			return snapshot.ChangedMeanwhile(err, "delete %s", rec.Name)
		}
	}
	if k == nil {
		return nil
	}
	return f.drop(ctx, k.entry, "it is deleted")
}
