package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// What no backend took may be the last copy of a cluster that is lost next. The newest such snapshot of a cluster is kept on
// the replica's own disk, laid out as on a backend, until a backend takes it or a newer snapshot was stored.

// keep puts the snapshot, whole and verified, into the place of this replica when no backend has taken it.
func (t *transfer) keep(ctx context.Context) {
	if t.cfg.Kept == nil || t.err != nil || ctx.Err() != nil || t.left > 0 {
		return
	}
	if err := t.putKept(ctx); err != nil {
		t.log.WarnContext(ctx, "snapshot that no backend took is not kept either", "snapshot", t.rec.Name, "error", err)
		return
	}
	t.rec.KeptOn = t.cfg.Node
	t.log.WarnContext(ctx, "no backend took the snapshot; it is kept here", "snapshot", t.rec.Name, "at", t.cfg.Kept.URI(t.key(t.rec.DataKey())))
}

func (t *transfer) putKept(ctx context.Context) error {
	data, manifest := t.key(t.rec.DataKey()), t.key(ManifestKey(t.rec.Name))
	err := t.cfg.Kept.Put(ctx, data, t.stored.Reader(ctx), PutOptions{ContentType: dataContentType, SizeHint: t.rec.StoredSize})
	if err != nil {
		return err
	}
	opts := PutOptions{ContentType: jsonContentType, SizeHint: int64(len(t.manifest))}
	if err := t.cfg.Kept.Put(ctx, manifest, bytes.NewReader(t.manifest), opts); err != nil {
		t.undo(ctx, t.cfg.Kept, data)
		return err
	}
	return nil
}

// keeps reports whether this replica keeps the snapshot of a record.
func (c *Cluster) keeps(rec *Record) bool {
	return c.cfg.Kept != nil && rec.State == StateFailed && rec.KeptOn == c.cfg.Node
}

// tellKept says where a snapshot is that is on no backend, to whoever reads why it is FAILED.
func (r *Record) tellKept() {
	if r.State == StateFailed && r.KeptOn != "" {
		r.Error += fmt.Sprintf("; it is kept on %s until a backend takes it", r.KeptOn)
	}
}

// Deliver brings the snapshot that this replica keeps to the backends that should hold it, as far as attempts are due: to one
// of them at least, from which repair makes the other copies. It returns when to try again; the zero time when nothing is
// kept. The error is that of the catalog, of the disk or of ctx; a backend that still does not take it is logged.
func (c *Cluster) Deliver(ctx context.Context) (next time.Time, err error) {
	if c.cfg.Kept == nil || c.busy() {
		return time.Time{}, nil
	}
	shelf := Shelf{Backend: c.cfg.Kept, Prefix: c.cfg.Prefix}
	entries, err := shelf.Entries(ctx)
	if err != nil || len(entries) == 0 {
		return time.Time{}, err
	}
	for _, old := range entries[1:] {
		if err := c.dropOlder(ctx, old); err != nil {
			return time.Time{}, err
		}
	}
	rec, err := c.keptRecord(ctx, &shelf, entries[0])
	if err != nil {
		return time.Time{}, err
	}
	if rec == nil {
		return time.Time{}, c.dropKept(ctx, entries[0])
	}
	return c.deliver(ctx, rec, entries[0])
}

// deliver makes the attempts at one snapshot that are due.
func (c *Cluster) deliver(ctx context.Context, rec *Record, e Entry) (next time.Time, err error) {
	for _, b := range c.cfg.Backends {
		l := rec.Location(b.Name())
		if l == nil || l.State != StateFailed {
			continue
		}
		due := rec.repairDue(l, c.cfg.Now())
		if !due.After(c.cfg.Now()) {
			m, err := c.tryRepair(ctx, missing{name: rec.Name, backend: b.Name()}, map[string]bool{})
			switch {
			case err != nil:
				return time.Time{}, err
			case m.name == "":
				return time.Time{}, c.dropKept(ctx, e)
			}
			due = m.due
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next, nil
}

// keptRecord returns the record of what is kept; nil when it has no use any more, because it is on a backend by now, was
// deleted, or a newer snapshot was stored. A catalog that does not know it, as it was down or came back from the past, is told.
func (c *Cluster) keptRecord(ctx context.Context, shelf *Shelf, e Entry) (*Record, error) {
	// What says that it is of the future was taken by a wrong clock, and may be older.
	until := c.cfg.Now().Add(ClockTolerance)
	newest, err := c.cfg.Catalog.List(ctx, Query{States: []State{StateReady, StatePartial}, Until: until, PageSize: 1})
	if err != nil {
		return nil, err
	}
	superseded := len(newest.Records) > 0 && newest.Records[0].CreateTime.After(e.Time.Add(time.Second)) // names have whole seconds
	rec, err := c.cfg.Catalog.Get(ctx, e.Name)
	switch {
	case isNotFound(err) && superseded:
		return nil, nil //nolint:nilnil // it has no use
	case isNotFound(err):
		return c.recordKept(ctx, shelf, e)
	case err != nil:
		return nil, err
	case rec.State != StateFailed || rec.SupersededBy != "":
		return nil, nil //nolint:nilnil // it has no use
	case superseded:
		return nil, c.forgetKept(ctx, rec)
	case rec.KeptOn == c.cfg.Node:
		return rec, nil
	}
	rec.KeptOn = c.cfg.Node // its save was killed before it could say so
	rec.tellKept()
	return rec, c.cfg.Catalog.Update(ctx, rec)
}

// recordKept makes the record of what is kept from its manifest.
func (c *Cluster) recordKept(ctx context.Context, shelf *Shelf, e Entry) (*Record, error) {
	found, err := shelf.Record(ctx, e)
	if err == nil && found.Trigger == TriggerAdopted {
		err = errors.New("it has no manifest")
	}
	if err != nil {
		c.log.WarnContext(ctx, "what is kept is no snapshot", "snapshot", e.Name, "error", err)
		return nil, nil //nolint:nilnil // it has no use
	}
	rec := found.Clone()
	rec.Locations, rec.State, rec.KeptOn = nil, StateFailed, c.cfg.Node
	for _, b := range c.cfg.Backends {
		const why = "it did not take the snapshot"
		rec.Locations = append(rec.Locations, Location{
			Backend: b.Name(), Kind: b.Kind(), URI: b.URI(c.key(rec.DataKey())), State: StateFailed, Error: why, UpdateTime: c.cfg.Now().UTC(),
		})
		rec.Failures = append(rec.Failures, Failure{Backend: b.Name(), Reason: ReasonCopyMissing, Message: why})
	}
	setState(&rec.Snapshot)
	rec.tellKept()
	return rec, c.cfg.Catalog.Create(ctx, rec)
}

// dropOlder gives up what is kept of a snapshot for a newer one's sake.
func (c *Cluster) dropOlder(ctx context.Context, e Entry) error {
	rec, err := c.cfg.Catalog.Get(ctx, e.Name)
	if err == nil && c.keeps(rec) {
		err = c.forgetKept(ctx, rec)
	}
	if err != nil && !isNotFound(err) {
		return err
	}
	return c.dropKept(ctx, e)
}

// forgetKept notes that a snapshot is not kept any more, and that it is nowhere.
func (c *Cluster) forgetKept(ctx context.Context, rec *Record) error {
	rec.KeptOn = ""
	setState(&rec.Snapshot)
	return c.cfg.Catalog.Update(ctx, rec)
}

// dropKept removes what is kept of a snapshot.
func (c *Cluster) dropKept(ctx context.Context, e Entry) error {
	keys := []string{c.key(ManifestKey(e.Name))}
	for _, o := range e.group.objects {
		keys = append(keys, o.Key)
	}
	for _, key := range keys {
		if err := c.cfg.Kept.Delete(ctx, key); err != nil {
			return err
		}
	}
	c.log.InfoContext(ctx, "snapshot is not kept here any more", "snapshot", e.Name)
	return nil
}
