package cluster

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// adopt makes a record of a snapshot that another program has put on backends: each copy is read whole, checked and
// inspected. Nothing is written there.
func (r *reconciliation) adopt(ctx context.Context, it item, copies []candidate, e *effect) error {
	if r.req.ValidateOnly {
		return r.wouldAdopt(ctx, it, copies, e)
	}
	rec, err := r.readForeign(ctx, it, copies, e)
	switch {
	case errors.Is(err, snapshot.ErrExists):
		return r.retry(ctx, it)
	case err != nil || len(rec.Locations()) == 0:
		return err
	}
	r.c.log.InfoContext(ctx, "snapshot adopted", "snapshot", rec.Name, "state", rec.State().String(),
		"revision", rec.Revision)
	return r.commit(ctx, it, rec, e, true)
}

// readForeign reads the copies of another program's snapshot and returns the record that describes them. ErrExists when
// another replica has just made one: reading all of them again would cost too much.
func (r *reconciliation) readForeign(
	ctx context.Context, it item, copies []candidate, e *effect,
) (*snapshot.Record, error) {
	release, err := r.c.takeAdoption(ctx, it.name)
	if err != nil {
		return nil, err
	}
	defer release()
	if _, err := r.c.cfg.Records.Get(ctx, it.name); err == nil {
		return nil, snapshot.ErrExists
	} else if !snapshot.IsNotFound(err) {
		return nil, err
	}
	prefix := r.views[copies[0].view].repo.Prefix()
	first := r.firstGood(ctx, copies)
	rec := &snapshot.Record{
		Snapshot: snapshot.Snapshot{Name: it.name, Cluster: r.c.cfg.Name, Trigger: snapshot.TriggerAdopted, Pinned: true},
		File:     first.o.Key[len(prefix):], Seen: map[string]time.Time{},
	}
	// The name and the time of the file are all that another program tells of its snapshot without being read.
	rec.Compression = snapshot.CompressionOf(rec.File)
	rec.CreateTime, rec.Node = snapshot.Origin(it.name, first.o.ModTime)
	for _, c := range copies {
		v := r.views[c.view]
		if c.o.Key != prefix+rec.File {
			r.cmp.countForeign(ctx, v, c.o.Key) // the other backend has it in another form
			continue
		}
		if loc := r.cmp.readAdopted(ctx, v, rec, c.o); loc != nil {
			rec.Found(*loc)
			e.on[c.view].listed, e.on[c.view].added = true, true
		}
	}
	// A call that has ended did not read all copies, and the record would lack them.
	return rec, ctx.Err()
}

// takeAdoption waits until no other snapshot of another program is in the cluster's spool, and then for a turn among
// the clusters: those that wait for each other take no turns.
func (c *Cluster) takeAdoption(ctx context.Context, name string) (release func(), err error) {
	own, err := c.adopting.Take(ctx, "adopt %s", name)
	if err != nil || c.cfg.Turn == nil {
		return own, err
	}
	turn, err := c.cfg.Turn(ctx, "adopt "+name)
	if err != nil {
		own()
		return nil, err
	}
	return func() {
		turn()
		own()
	}, nil
}

// firstGood returns the first copy that looks like a snapshot, and the first of all when none does. Backends may have
// files of one name in several forms, of which one becomes the record: a file that failed must not hide a good one.
func (r *reconciliation) firstGood(ctx context.Context, copies []candidate) candidate {
	sameForm := func(c candidate) bool { return c.o.Key == copies[0].o.Key }
	if !slices.ContainsFunc(copies, func(c candidate) bool { return !sameForm(c) }) {
		return copies[0]
	}
	for _, c := range copies {
		repo := r.views[c.view].repo
		if repo.PeekForeign(ctx, c.o.Key[len(repo.Prefix()):], c.o.Size) == nil {
			return c
		}
	}
	return copies[0]
}

// wouldAdopt reports the effect of adopt, as far as the ends of each copy show it.
func (r *reconciliation) wouldAdopt(ctx context.Context, it item, copies []candidate, e *effect) error {
	for _, c := range copies {
		v := r.views[c.view]
		err := v.repo.PeekForeign(ctx, c.o.Key[len(v.repo.Prefix()):], c.o.Size)
		none := errors.Is(err, repository.ErrNoSnapshot)
		switch {
		case none && !v.repo.NamedByK3s(c.o):
			r.cmp.countForeign(ctx, v, c.o.Key)
		case err != nil && !none && !snapshot.IsDamage(err):
			r.cmp.failObject(v, err)
		default:
			e.on[c.view].listed, e.on[c.view].added = true, true
		}
	}
	return r.commit(ctx, it, nil, e, false)
}

// readAdopted reads one copy and returns its location; nil when it is no snapshot, or could not be read. The first good
// copy describes the record. A file that was meant to be a snapshot, by its name or because it was one, is FAILED when
// it is none, so that its loss is not overlooked.
func (x *comparison) readAdopted(
	ctx context.Context, v *view, rec *snapshot.Record, o *repository.Object,
) *snapshot.Location {
	s, err := v.repo.ReadForeign(ctx, rec, x.c.cfg.SpoolDir)
	loc := x.failedLocation(v, rec, o.Size, "")
	switch {
	case errors.Is(err, repository.ErrNoSnapshot) && (rec.Version > 0 || v.repo.NamedByK3s(o)):
		loc.Error = err.Error()
	case errors.Is(err, repository.ErrNoSnapshot):
		// Reading it takes as long as reading a snapshot, so it is remembered until it changes or goes.
		x.c.foreign.Put(v.repo.Name(), o.Key, foreignObject{o.Size, o.ModTime}, x.begin)
		x.c.log.WarnContext(ctx, "object is no snapshot", "backend", v.repo.Name(), "key", o.Key, "error", err)
		x.countForeign(ctx, v, o.Key)
		return nil
	case snapshot.IsDamage(err):
		loc.Error = err.Error()
	case err != nil:
		x.failObject(v, err)
		return nil
	case rec.StoredSHA256 == "":
		loc.State = snapshot.StateReady
		rec.Revision, rec.TotalKeys, rec.Hash, rec.StorageVersion = s.Revision, s.TotalKeys, s.Hash, s.StorageVersion
		rec.Alarms = s.Alarms
		rec.OldestRevision = s.OldestRevision
		rec.DBSize, rec.SHA256, rec.StoredSize, rec.StoredSHA256 = s.DBSize, s.SHA256, s.StoredSize, s.StoredSHA256
		rec.Labels = v.repo.ForeignLabels(ctx, rec.File)
	case rec.StoredSHA256 != s.StoredSHA256:
		loc.Error = snapshot.OtherSnapshot
	default:
		loc.State = snapshot.StateReady
	}
	// Size and time are all that a later listing shows of a change of the file.
	rec.Saw(v.repo.Name(), o.ModTime)
	return &loc
}

// reconcileAdopted compares the location of an adopted snapshot with the listing: a file that is as it was when it
// was read is good, and one that has changed is read again. There is no manifest to compare with, and other programs
// may replace their files at any time.
func (x *comparison) reconcileAdopted(
	ctx context.Context, i int, rec *snapshot.Record, loc *snapshot.Location, data *repository.Object, e *effect,
) {
	v := x.views[i]
	e.on[i].listed = true
	asRead := loc != nil && loc.Size == data.Size && rec.Seen[v.repo.Name()].Equal(data.ModTime)
	if asRead && loc.State != snapshot.StateDeleting || x.validateOnly {
		e.on[i].unchanged = loc != nil
		e.on[i].added = loc == nil
		return
	}
	release, err := x.c.takeAdoption(ctx, rec.Name)
	if err != nil {
		return // the reconciliation ends, too
	}
	defer release()
	// With a second good copy the changed file is the odd one out, and FAILED. Without one there is nothing to
	// compare it with.
	if len(rec.ReadyOn()) == 0 || len(rec.Locations()) == 1 && loc != nil {
		rec.StoredSHA256 = "" // its only copy has changed, and describes it anew
	}
	now := x.readAdopted(ctx, v, rec, data)
	switch {
	case now == nil:
		e.on[i].unchanged = loc != nil
	case loc == nil:
		rec.Found(*now)
		e.on[i].added = true
	default:
		rec.Found(*now)
		e.on[i].updated = true
	}
}

// adoptable returns the object of a group that may be a snapshot of another program, or nil. An object that was
// written just now may not be whole yet. An empty one is a snapshot that has failed if its name is K3s', and
// otherwise any file.
func (x *comparison) adoptable(v *view, g *repository.Group) *repository.Object {
	o := v.repo.Adoptable(g)
	switch {
	case o == nil, o.Size == 0 && !v.repo.NamedByK3s(o):
		return nil
	case x.begin.Sub(o.ModTime) < youngAge, x.knownForeign(v.repo.Name(), o):
		return nil
	}
	return o
}

// knownForeign reports whether an object was read before, as it is, and found to be no snapshot.
func (x *comparison) knownForeign(backend string, o *repository.Object) bool {
	was, ok := x.c.foreign.Get(backend, o.Key, x.begin)
	return ok && was.size == o.Size && was.modTime.Equal(o.ModTime)
}
