package snapshot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/internal/fault"
)

// settleTimeout bounds what is still done after a save was cancelled: removing traces and writing the record.
const settleTimeout = 20 * time.Second

// Save takes a snapshot and returns when every chosen backend holds it durably or has failed. The result carries the
// snapshot also beside an error when there is one to show: PARTIAL or FAILED.
func (c *Cluster) Save(ctx context.Context, req SaveRequest) (SaveResult, error) {
	req, backends, err := c.validateSave(req)
	if err != nil {
		return SaveResult{}, err
	}
	for {
		f, joined, err := c.takeOff(req.RequestID)
		if err != nil {
			c.cfg.Observer.SaveRejected(ctx, c.cfg.Name)
			return SaveResult{}, err
		}
		if !joined {
			return c.fly(ctx, f, req, backends)
		}
		res, err := f.wait(ctx)
		if ReasonOf(err) != ReasonCancelled || ctx.Err() != nil {
			return res, err
		}
		// The call that was joined was cancelled, and has no outcome; this one was not.
	}
}

// fly runs a save and lands it, also when it panics: the cluster must not be busy for ever.
func (c *Cluster) fly(ctx context.Context, f *flight, req SaveRequest, backends []Backend) (res SaveResult, err error) {
	err = &Error{Reason: ReasonInternal, Message: fmt.Sprintf("save cluster %q: it ended in a defect of the service", c.cfg.Name)}
	defer func() { c.land(f, res, err) }()
	return c.save(ctx, req, backends)
}

// save is Save with the lock of this process held.
func (c *Cluster) save(ctx context.Context, req SaveRequest, backends []Backend) (SaveResult, error) {
	earlier, over, err := c.repeated(ctx, req.RequestID)
	if over || err != nil {
		return c.replay(earlier, err)
	}
	s := &save{
		Cluster: c, req: req, backends: backends,
		start: c.cfg.Now(), owner: c.cfg.Node + "/" + rand.Text(),
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return SaveResult{}, err
	}
	defer unlock()
	s.newRecord()
	if earlier, over, err = s.register(ctx); over || err != nil {
		return c.replay(earlier, err)
	}
	return s.run(ctx)
}

func (c *Cluster) replay(rec *Record, err error) (SaveResult, error) {
	if err != nil {
		return SaveResult{}, err
	}
	if len(rec.Failures) == 0 {
		return SaveResult{Snapshot: &rec.Snapshot}, nil // it went well; what became of it since is in the snapshot
	}
	return SaveResult{Snapshot: &rec.Snapshot}, outcome(rec)
}

// save is one save under way.
type save struct {
	*Cluster
	req      SaveRequest
	backends []Backend
	start    time.Time
	owner    string

	rec          *Record
	lost         <-chan struct{} // closed when the lock is; nil without one
	uncatalogued error           // why the catalog is not written, once that is known
	warnings     []string        // for the response
}

// lock takes the cluster's lock across replicas. Without the catalog the lock of this process must do.
func (s *save) lock(ctx context.Context) (unlock func(), err error) {
	lock, err := s.cfg.Catalog.Lock(ctx, s.owner)
	switch {
	case errors.Is(err, ErrLocked):
		s.cfg.Observer.SaveRejected(ctx, s.cfg.Name)
		return nil, s.saveInProgress("on another replica")
	case ctx.Err() != nil:
		return nil, cancelled(ctx, fmt.Sprintf("lock cluster %q", s.cfg.Name))
	case err != nil:
		s.goUncatalogued(ctx, err)
		return func() {}, nil
	}
	fault.Point("locked")
	s.lost = lock.Lost()
	return func() { lock.Unlock(context.WithoutCancel(ctx)) }, nil
}

// goUncatalogued notes that the catalog cannot be written. The save goes on: in a disaster it must.
func (s *save) goUncatalogued(ctx context.Context, err error) {
	if s.uncatalogued != nil {
		return
	}
	s.uncatalogued = err
	s.warnings = append(s.warnings, fmt.Sprintf("the catalog was not written, and reconcile will add the snapshot later; only this replica's saves are kept apart: %v", err))
	s.log.WarnContext(ctx, "saving without the catalog", "error", err)
}

// run takes the snapshot, from the record to the outcome.
func (s *save) run(ctx context.Context) (res SaveResult, err error) {
	ctx, span := tracer.Start(ctx, "snapshot save")
	defer func() {
		// Here is where a save has ended, for better or worse; the span is still open for the exemplar.
		s.cfg.Observer.Saved(ctx, &s.rec.Snapshot, s.cfg.Now().Sub(s.start), err)
		endSpan(span, err)
	}()

	fault.Point("registered")
	span.SetAttributes(attribute.String("cluster", s.cfg.Name), attribute.String("snapshot", s.rec.Name))
	s.publish(Event{Type: EventStarted, Snapshot: s.rec.Snapshot.Clone()})
	s.log.InfoContext(ctx, "save started", "snapshot", s.rec.Name)

	transferErr := s.transfer(ctx)

	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	s.doubt(settle, nil)
	s.conclude(ctx, transferErr)
	fault.Point("concluded")
	s.record(settle)
	fault.Point("recorded")
	s.publish(Event{Type: EventFinished, Snapshot: s.rec.Snapshot.Clone()})

	err = outcome(s.rec)
	if err != nil {
		s.log.ErrorContext(ctx, "save ended without all it should have", "snapshot", s.rec.Name, "state", s.rec.State.String(), "error", err)
	} else {
		s.log.InfoContext(ctx, "snapshot saved", "snapshot", s.rec.Name, "revision", s.rec.Revision, "db_size", s.rec.DBSize,
			"stored_size", s.rec.StoredSize, "duration", s.rec.Duration)
	}
	return SaveResult{Snapshot: s.rec.Snapshot.Clone(), Warnings: s.warnings}, err
}

func (s *save) newRecord() {
	s.rec = &Record{
		Snapshot: Snapshot{
			Cluster: s.cfg.Name, Node: s.cfg.Node, State: StateSaving, Labels: s.req.Labels, Trigger: s.req.Trigger,
			CreateTime: s.start.UTC(), Compression: s.cfg.Compression, EncryptionRecipients: s.cfg.Recipients.Names(),
		},
		RequestID: s.req.RequestID,
		Owner:     s.owner,
	}
	for _, b := range s.backends {
		s.rec.Locations = append(s.rec.Locations, Location{Backend: b.Name(), Kind: b.Kind(), State: StateSaving, UpdateTime: s.start.UTC()})
	}
}

// register gives the snapshot a name that nobody has and puts its record, SAVING, into the catalog. Two saves in one
// second get two names: the second one says the next second. When another replica has ended the same request by now,
// register returns its record, and that it is over.
func (s *save) register(ctx context.Context) (earlier *Record, over bool, err error) {
	s.setName()
	for s.uncatalogued == nil {
		if earlier, over, err = s.repeated(ctx, s.req.RequestID); over || err != nil {
			return earlier, over, err
		}
		switch err := s.cfg.Catalog.Begin(ctx, s.rec, superseded(earlier, s.rec)); {
		case err == nil:
			return nil, false, nil
		case errors.Is(err, ErrExists):
			s.setName()
		case errors.Is(err, ErrConflict): // somebody has settled, ended or begun the same request
		case errors.Is(err, ErrLocked):
			if earlier, over, err = s.repeated(ctx, s.req.RequestID); over || err != nil {
				return earlier, over, err
			}
			return nil, false, s.saveInProgress("or was until just now: this save had lost its lock before it began")
		case ctx.Err() != nil:
			return nil, false, cancelled(ctx, fmt.Sprintf("save %s", s.rec.Name))
		default:
			s.goUncatalogued(ctx, err)
		}
	}
	return nil, false, nil
}

func (s *save) setName() {
	s.mu.Lock()
	if s.lastUnix-s.start.Unix() > int64(ClockTolerance.Seconds()) {
		s.lastUnix = 0 // the clock was ahead, and was put right
	}
	s.lastUnix = max(s.start.Unix(), s.lastUnix+1)
	unix := s.lastUnix
	s.rec.Name = fmt.Sprintf("%s-%s-%d", s.req.NamePrefix, s.cfg.Node, unix)
	s.flight.name = s.rec.Name
	s.mu.Unlock()
	for i, b := range s.backends {
		s.rec.Locations[i].URI = b.URI(s.key(s.rec.DataKey()))
	}
}

// conclude turns what the backends said into the snapshot's state. transferErr is why the database could not be read,
// verified or stored anywhere; it is nil when the backends' own errors tell all.
func (s *save) conclude(ctx context.Context, transferErr error) {
	s.rec.Owner = ""
	if ctx.Err() != nil && !s.allReady() {
		transferErr = cancelled(ctx, "the call was cancelled")
	}
	if transferErr != nil {
		s.rec.Failures = append([]Failure{failureOf("", transferErr)}, s.rec.Failures...)
	}
	s.rec.Duration = s.cfg.Now().Sub(s.start)
	setState(&s.rec.Snapshot)
	if transferErr != nil {
		s.rec.Error = transferErr.Error()
	}
	s.rec.tellKept()
}

func (s *save) allReady() bool { return len(readyBackends(s.rec)) == len(s.rec.Locations) }

// record writes the outcome into the catalog, also when that failed before: it may be back. Reconcile may have settled
// the record meanwhile, if this replica was taken for dead; what is still there when the save looks again is newer. If
// another save has taken the request over, this one keeps nothing.
func (s *save) record(ctx context.Context) {
	var err error
	for range 5 {
		if s.rec.Version == 0 {
			err = s.recordAnew(ctx)
		} else {
			err = s.cfg.Catalog.Update(ctx, s.rec)
		}
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrExists) {
			break
		}
		current, gerr := s.cfg.Catalog.Get(ctx, s.rec.Name)
		switch {
		case isNotFound(gerr):
			s.rec.Version, current = 0, &Record{}
		case gerr != nil:
			s.goUncatalogued(ctx, gerr)
			return
		case current.State == StateDeleting && current.SupersededBy == "":
			return
		case s.rec.Version == 0 && current.Owner != s.owner && (s.rec.StoredSHA256 == "" || current.StoredSHA256 != s.rec.StoredSHA256):
			s.goUncatalogued(ctx, err) // another snapshot has the name
			return
		default:
			s.rec.Version = current.Version
		}
		if current.SupersededBy != "" {
			s.giveUp(ctx, current.SupersededBy)
			continue
		}
		s.doubt(ctx, current)
		setState(&s.rec.Snapshot)
	}
	if err != nil {
		s.goUncatalogued(ctx, err)
		return
	}
	if s.uncatalogued != nil {
		s.uncatalogued, s.warnings = nil, nil
		s.log.InfoContext(ctx, "catalog is back; the snapshot is in it", "snapshot", s.rec.Name)
	}
}

func (s *save) publish(ev Event) {
	ev.Name, ev.RequestID = s.rec.Name, s.req.RequestID
	s.Cluster.publish(ev)
}

// makeSpoolDir makes the directory that this save spools into.
func (s *save) makeSpoolDir() (dir string, remove func(), err error) {
	dir = filepath.Join(s.cfg.SpoolDir, s.rec.Name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, spoolError("create", err)
	}
	return dir, func() {
		if err := os.RemoveAll(dir); err != nil {
			s.log.Warn("spool not removed", "error", err)
		}
	}, nil
}
