package snapshot

import (
	"context"
	"errors"
	"strings"
	"time"
)

// candidate is an object that another program may have put there as a snapshot, on the view of this number.
type candidate struct {
	view int
	o    *Object
}

// adopt makes a record of what another program has put on backends: each copy is read whole, checked and inspected. Nothing
// is written there.
func (r *reconciliation) adopt(ctx context.Context, it item, copies []candidate, ch *change) error {
	if r.dry {
		return r.wouldAdopt(ctx, it, copies, ch)
	}
	done, err := r.adoptAlone(ctx, it.name)
	if err != nil {
		return err
	}
	defer done()
	if _, err := r.cfg.Catalog.Get(ctx, it.name); !isNotFound(err) {
		return err // another replica has just adopted it, or the catalog does not answer
	}
	rec := &Record{
		Snapshot: Snapshot{Name: it.name, Cluster: r.cfg.Name, Trigger: TriggerAdopted, Pinned: true},
		File:     strings.TrimPrefix(copies[0].o.Key, r.cfg.Prefix), Seen: map[string]time.Time{},
	}
	rec.Compression = compressionOf(rec.File)
	rec.CreateTime, rec.Node = originOf(it.name, copies[0].o.ModTime)
	for _, c := range copies {
		v := r.views[c.view]
		if c.o.Key != r.key(rec.File) {
			r.foreign(ctx, v, c.o.Key) // the other backend has it in another form
			continue
		}
		if loc := r.take(ctx, v, rec, c.o); loc != nil {
			rec.Locations = append(rec.Locations, *loc)
			ch.listed[c.view], ch.added[c.view] = true, true
		}
	}
	if len(rec.Locations) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	setState(&rec.Snapshot)
	r.log.InfoContext(ctx, "snapshot adopted", "snapshot", rec.Name, "state", rec.State.String(), "revision", rec.Revision)
	return r.commit(ctx, it, rec, ch, true)
}

// adoptAlone waits until nothing else is adopted: that one snapshot is in the spool at a time. The caller calls done.
func (r *reconciliation) adoptAlone(ctx context.Context, name string) (done func(), err error) {
	select {
	case r.adopting <- struct{}{}:
		return func() { <-r.adopting }, nil
	case <-ctx.Done():
		return nil, cancelled(ctx, "adopt "+name)
	}
}

// wouldAdopt says what adopt would do, as far as the first bytes of each copy show.
func (r *reconciliation) wouldAdopt(ctx context.Context, it item, copies []candidate, ch *change) error {
	for _, c := range copies {
		v := r.views[c.view]
		in, err := OpenCopy(ctx, v.b, c.o.Key, &Snapshot{Compression: compressionOf(c.o.Key)})
		if err == nil {
			_, _, err = readHead(in)
			_ = in.Close()
		}
		switch {
		case errors.Is(err, errNoSnapshot):
			r.foreign(ctx, v, c.o.Key)
		case err != nil:
			r.fail(v, err)
		default:
			ch.listed[c.view], ch.added[c.view] = true, true
		}
	}
	return r.commit(ctx, it, nil, ch, false)
}

// take reads one copy and returns its location; nil when it is no snapshot, or could not be read. The first good copy
// describes the record.
func (r *reconciliation) take(ctx context.Context, v *view, rec *Record, o *Object) *Location {
	s, err := r.readForeign(ctx, v.b, rec)
	loc := r.newLocation(v, rec)
	loc.Size, loc.State = o.Size, StateReady
	switch {
	case errors.Is(err, errNoSnapshot) && rec.Version > 0: // it was one when it was read before
		loc.State, loc.Error = StateFailed, err.Error()
	case errors.Is(err, errNoSnapshot):
		r.rememberForeign(v, o)
		r.log.WarnContext(ctx, "object is no snapshot", "backend", v.b.Name(), "key", o.Key, "error", err)
		r.foreign(ctx, v, o.Key)
		return nil
	case ReasonOf(err) == ReasonChecksumMismatch || ReasonOf(err) == ReasonSnapshotUnreadable:
		loc.State, loc.Error = StateFailed, err.Error()
	case err != nil:
		r.fail(v, err)
		return nil
	case rec.StoredSHA256 == "":
		rec.Revision, rec.TotalKeys, rec.Hash, rec.StorageVersion = s.Revision, s.TotalKeys, s.Hash, s.StorageVersion
		rec.DBSize, rec.SHA256, rec.StoredSize, rec.StoredSHA256 = s.DBSize, s.SHA256, s.StoredSize, s.StoredSHA256
		rec.Labels = r.foreignLabels(ctx, v.b, rec.File)
	case rec.StoredSHA256 != s.StoredSHA256:
		loc.State, loc.Error = StateFailed, "it holds another snapshot under this name"
	}
	rec.Seen[v.b.Name()] = o.ModTime.UTC()
	return &loc
}

// settleAdopted compares the location of an adopted snapshot with what is listed: what is as it was when it was read is
// good; what has changed is read again.
func (r *reconciliation) settleAdopted(ctx context.Context, i int, rec *Record, loc *Location, data *Object, ch *change) {
	v := r.views[i]
	name := v.b.Name()
	ch.listed[i] = true
	if loc != nil && loc.Size == data.Size && rec.Seen[name].Equal(data.ModTime) || r.dry {
		ch.unchanged[i] = loc != nil
		ch.added[i] = loc == nil
		return
	}
	done, err := r.adoptAlone(ctx, rec.Name)
	if err != nil {
		return // and so does the reconciliation
	}
	defer done()
	if len(readyBackends(rec)) == 0 || len(rec.Locations) == 1 && loc != nil {
		rec.StoredSHA256 = "" // whatever it is now describes it anew
	}
	if rec.Seen == nil {
		rec.Seen = map[string]time.Time{}
	}
	now := r.take(ctx, v, rec, data)
	switch {
	case now == nil:
		ch.unchanged[i] = loc != nil
	case loc == nil:
		rec.Locations = append(rec.Locations, *now)
		ch.added[i] = true
	default:
		*loc = *now
		ch.updated[i] = true
	}
}
