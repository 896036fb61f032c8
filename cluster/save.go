package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/cluster/amend"
	"github.com/snapshotd/snapshotd/cluster/inflight"
	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Save takes a snapshot and returns when every chosen backend holds it durably or has failed. The result carries the
// snapshot also beside an error when there is one to show: PARTIAL or FAILED.
func (c *Cluster) Save(ctx context.Context, req SaveRequest) (SaveResult, error) {
	req, chosen, err := c.validateSave(req)
	if err != nil {
		return SaveResult{}, err
	}
	for { // until this call has an outcome of its own, or one that it has joined
		run, joined := c.inflight.Join(req.RequestID)
		if run == nil {
			c.observe(ctx, snapshot.Event{Type: snapshot.EventSaveRejected})
			return SaveResult{}, snapshot.SaveInProgress(c.cfg.Name, "on this replica")
		}
		if !joined {
			return c.runSave(ctx, run, req, chosen)
		}
		res, err := run.Wait(ctx)
		if snapshot.ReasonOf(err) != snapshot.ReasonCancelled || ctx.Err() != nil {
			return res, err
		}
		// The call that was joined was cancelled, and has no outcome; this one was not.
	}
}

// CheckSave returns the error with which Save would refuse a request that is wrong.
func (c *Cluster) CheckSave(req SaveRequest) error {
	_, _, err := c.validateSave(req)
	return err
}

// validateSave checks a request and fills in its defaults. All of it is checked before anything is begun: a save that
// fails later has cost etcd a read of its whole database.
func (c *Cluster) validateSave(req SaveRequest) (SaveRequest, []*repository.Repository, error) {
	if req.NamePrefix == "" {
		req.NamePrefix = snapshot.OnDemandPrefix
	}
	if len(req.NamePrefix) > snapshot.MaxNamePrefix || !snapshot.ValidName(req.NamePrefix) {
		return req, nil, snapshot.Invalid("name_prefix",
			"%.120q is not a name prefix: up to %d letters, digits, '.', '_' and '-', a letter or digit first", req.NamePrefix,
			snapshot.MaxNamePrefix)
	}
	if len(req.RequestID) > snapshot.MaxRequestID {
		return req, nil, snapshot.Invalid("request_id", "has %d bytes; up to %d are allowed", len(req.RequestID),
			snapshot.MaxRequestID)
	}
	if err := snapshot.ValidateLabels(req.Labels); err != nil {
		return req, nil, err
	}
	if i := slices.Index(req.Backends, ""); i >= 0 {
		return req, nil, snapshot.Invalid("backends", "name %d is empty; leave the list empty to choose all: %s", i+1,
			snapshot.Join(c.BackendNames()))
	}
	if req.Trigger == snapshot.TriggerUnspecified {
		req.Trigger = snapshot.TriggerManual
	}
	chosen, err := c.choose(req.Backends)
	return req, chosen, err
}

// runSave runs a save in this process and finishes it, also when it panics: the cluster must not be busy for ever.
func (c *Cluster) runSave(
	ctx context.Context, run *inflight.Run[SaveResult], req SaveRequest, chosen []*repository.Repository,
) (res SaveResult, err error) {
	err = c.defect()
	defer func() {
		c.inflight.Finish(run, res, err)
		c.wakeRepair()
	}()
	return c.beginSave(ctx, req, chosen) // assigned when it returns: after a panic the error above is the outcome
}

// defect is the outcome of a save that panics.
func (c *Cluster) defect() error {
	return snapshot.ReasonInternal.New("save cluster %q: it ended in a defect of the service", c.cfg.Name)
}

// beginSave locks the cluster, registers the snapshot and takes it.
func (c *Cluster) beginSave(ctx context.Context, req SaveRequest, chosen []*repository.Repository) (SaveResult, error) {
	// The request is looked up twice: here, so that a repeated one need not wait for a lock, and again under the lock,
	// where no other replica can answer it any more.
	earlier, answered, err := c.repeated(ctx, req.RequestID)
	if answered || err != nil {
		return replay(earlier, err)
	}
	s := &save{c: c, req: req, chosen: chosen, start: c.cfg.Now(), owner: c.cfg.Node + "/" + rand.Text()}
	unlock, err := s.lock(ctx)
	if err != nil {
		return SaveResult{}, err
	}
	defer unlock()
	if earlier, answered, err = s.register(ctx); answered || err != nil {
		return replay(earlier, err)
	}
	return s.run(ctx)
}

// replay returns the outcome that a repeated request had before. It is computed from the record alone, so that the same
// request gets the same answer from every replica and after every restart.
func replay(rec *snapshot.Record, err error) (SaveResult, error) {
	if err != nil {
		return SaveResult{}, err
	}
	res := SaveResult{Snapshot: &rec.Snapshot, Repeated: true}
	if len(rec.Failures()) == 0 {
		return res, nil // it went well; the snapshot shows changes since then
	}
	return res, rec.Outcome()
}

// save is one save under way.
type save struct {
	c      *Cluster
	req    SaveRequest
	chosen []*repository.Repository
	start  time.Time
	owner  string

	rec          *snapshot.Record
	held         Lock            // nil without the catalog
	lost         <-chan struct{} // closed when the lock is; nil without one
	uncatalogued error           // why the catalog is not written, once that is known
	warnings     []string        // for the response
}

// lock takes the cluster's lock across replicas. Without the catalog, the lock of this process has to be enough: in a
// disaster two snapshots at a time are better than none.
func (s *save) lock(ctx context.Context) (unlock func(), err error) {
	lock, err := s.c.cfg.Saves.Lock(ctx, s.owner)
	switch {
	case errors.Is(err, snapshot.ErrLocked):
		s.c.observe(ctx, snapshot.Event{Type: snapshot.EventSaveRejected})
		return nil, snapshot.SaveInProgress(s.c.cfg.Name, "on another replica").Because(err)
	case ctx.Err() != nil:
		return nil, snapshot.Cancelled(ctx, "lock cluster %q", s.c.cfg.Name)
	case err != nil:
		s.goUncatalogued(ctx, err)
		return func() {}, nil
	}
	fault.Point("locked")
	// A lost lock does not end the save: the bytes may be the last good ones. Before anything becomes visible, and in
	// the end, the save looks whether another one has taken its request over.
	s.held, s.lost = lock, lock.Lost()
	return func() { lock.Unlock(context.WithoutCancel(ctx)) }, nil
}

// goUncatalogued notes that the catalog cannot be written. The save goes on: in a disaster it must. The answer warns
// of it, unless the catalog is back in the end.
func (s *save) goUncatalogued(ctx context.Context, err error) {
	if s.uncatalogued != nil {
		return
	}
	s.uncatalogued = err // the first one; later ones follow from it
	s.c.log.WarnContext(ctx, "saving without the catalog", "error", err)
}

// register gives the snapshot a name that is free and puts its record, SAVING, into the catalog. When another replica
// has answered the same request meanwhile, register returns its record, and true.
func (s *save) register(ctx context.Context) (earlier *snapshot.Record, answered bool, err error) {
	s.newRecord(ctx)
	s.setName()
	for s.uncatalogued == nil {
		if earlier, answered, err = s.c.repeated(ctx, s.req.RequestID); answered || err != nil {
			return earlier, answered, err
		}
		superseded := earlier
		if earlier != nil {
			superseded = earlier.SupersedeBy(s.rec.Name)
		}
		switch err := s.c.cfg.Saves.Begin(ctx, s.rec, superseded); {
		case err == nil:
			return nil, false, nil
		case errors.Is(err, snapshot.ErrExists):
			s.setName() // the second of two saves in one second is named after the next second
		case errors.Is(err, snapshot.ErrConflict): // another replica has reconciled, ended or begun the same request
		// The lock ran out before the record was written. Another replica may have answered the very same request
		// since.
		case errors.Is(err, snapshot.ErrLocked):
			if earlier, answered, err = s.c.repeated(ctx, s.req.RequestID); answered || err != nil {
				return earlier, answered, err
			}
			return nil, false, snapshot.SaveInProgress(s.c.cfg.Name,
				"or was until just now: this save had lost its lock before it began")
		case ctx.Err() != nil:
			return nil, false, snapshot.Cancelled(ctx, "save %s", s.rec.Name)
		default:
			s.goUncatalogued(ctx, err)
		}
	}
	return nil, false, nil
}

// newRecord makes the record with all that is known before etcd is asked. A save that dies leaves it, and reconcile
// looks at the locations that it names.
func (s *save) newRecord(ctx context.Context) {
	var chosen []snapshot.Location
	for _, r := range s.chosen {
		chosen = append(chosen, snapshot.Location{Backend: r.Name(), Kind: r.Kind()})
	}
	s.rec = snapshot.NewSave(snapshot.Snapshot{
		Cluster: s.c.cfg.Name, Node: s.c.cfg.Node, Labels: s.req.Labels, Trigger: s.req.Trigger, CreateTime: s.start.UTC(),
		Schedule: s.req.Schedule, TraceID: span.TraceID(ctx),
		Compression: s.c.cfg.Compression, EncryptionRecipients: s.c.cfg.Recipients.Names(),
	}, s.req.RequestID, s.owner, chosen)
}

// setName gives the snapshot a name that this process has not used yet. Whether it is free across replicas, the
// catalog decides.
func (s *save) setName() {
	name := s.c.inflight.NextName(s.start, func(unix int64) string {
		return fmt.Sprintf("%s-%s-%d", s.req.NamePrefix, s.c.cfg.Node, unix)
	})
	s.rec.SetName(name, func(backend string) string { return s.c.repo(backend).URI(s.rec.DataKey()) })
}

// run takes the snapshot, from the record to the outcome.
func (s *save) run(ctx context.Context) (res SaveResult, err error) {
	ctx, trace := span.Run(ctx, "snapshot save", span.Cluster.String(s.c.cfg.Name), span.Snapshot.String(s.rec.Name))
	err = s.c.defect()
	defer func() {
		// The span is still open for the exemplar of the metric.
		s.c.observe(ctx,
			s.event(snapshot.Event{Type: snapshot.EventFinished, Duration: s.c.cfg.Now().Sub(s.start), Err: err}))
		trace.End(err)
	}()

	fault.Point("registered")
	s.c.observe(ctx, s.event(snapshot.Event{Type: snapshot.EventStarted}))
	s.c.log.InfoContext(ctx, "save started", "snapshot", s.rec.Name)
	return s.take(ctx)
}

// take takes the snapshot and concludes its record.
func (s *save) take(ctx context.Context) (SaveResult, error) {
	whole := newTransfer(ctx, s).run(ctx)

	// A caller that has gone away must not leave the record SAVING. It is concluded under a context of its own.
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if s.lockLost() {
		s.recheck(cleanup, nil)
	}
	// A snapshot that is whole everywhere is READY also when the caller went away at the last moment.
	if ctx.Err() != nil && len(s.rec.ReadyOn()) < len(s.chosen) {
		whole = snapshot.Cancelled(ctx, "the call was cancelled")
	}
	s.rec.Conclude(s.c.cfg.Now().Sub(s.start), whole)
	fault.Point("concluded")
	s.record(cleanup)
	fault.Point("recorded")
	return s.outcome(ctx)
}

// event fills in the snapshot that a save's event is about. Observers keep it, so it is a copy.
func (s *save) event(ev snapshot.Event) snapshot.Event {
	ev.Name, ev.RequestID, ev.Snapshot = s.rec.Name, s.req.RequestID, s.rec.Clone()
	return ev
}

// record writes the outcome into the catalog, also when that failed before: the catalog may be back. When this replica
// was taken for dead, reconcile may have changed the record meanwhile, and another save may have taken the request
// over.
func (s *save) record(ctx context.Context) {
	var conflict error
	err := amend.Retry(func() error {
		if conflict != nil {
			if done, err := s.adjust(ctx, conflict); done || err != nil {
				return err
			}
		}
		if s.rec.Version == 0 { // the save began without the catalog
			conflict = s.recordAnew(ctx)
		} else {
			conflict = s.c.cfg.Records.Update(ctx, s.rec)
		}
		return conflict
	})
	switch {
	case err != nil:
		s.goUncatalogued(ctx, err)
	case s.uncatalogued != nil && s.rec.Version > 0:
		s.uncatalogued = nil
		s.c.log.InfoContext(ctx, "catalog is back; the snapshot is in it", "snapshot", s.rec.Name)
	}
}

// outcome returns the response of a save that is over, and logs it. A save that reached some backends returns the
// error of the first one that failed, beside the snapshot: a script that looks only at the error is not misled.
func (s *save) outcome(ctx context.Context) (SaveResult, error) {
	err := s.rec.Outcome()
	if err != nil {
		s.c.log.ErrorContext(ctx, "save ended incomplete", "snapshot", s.rec.Name, "state", s.rec.State().String(),
			"error", err)
	} else {
		s.c.log.InfoContext(ctx, "snapshot saved", "snapshot", s.rec.Name, "revision", s.rec.Revision,
			"db_size", s.rec.DBSize, "stored_size", s.rec.StoredSize, "duration", s.rec.Duration)
	}
	warnings := s.warnings
	if s.uncatalogued != nil {
		warnings = append(warnings, fmt.Sprintf("the catalog was not written, and reconcile will add the snapshot later; "+
			"without it, only this replica's own saves are serialized: %v", s.uncatalogued))
	}
	if len(s.rec.Alarms) > 0 && len(s.rec.ReadyOn()) > 0 {
		warnings = append(warnings, "the etcd that was saved "+snapshot.AlarmNote(s.rec.Alarms))
		s.c.log.WarnContext(ctx, "snapshot has alarms in it", "snapshot", s.rec.Name, "alarms", s.rec.Alarms)
	}
	return SaveResult{Snapshot: s.rec.Clone(), Warnings: warnings}, err
}
