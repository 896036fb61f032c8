package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// Verification is the verdict on a snapshot: that of the last time it was verified.
type Verification struct {
	Level    Level
	Passed   bool
	Error    string // why it did not pass
	Time     time.Time
	Duration time.Duration
	Backends []string // whose copies were verified
	HashKV   uint32   // etcd's HashKV at the snapshot's revision, from a drill
	Live     string   // of a drill: whether HashKV was compared with that of the live cluster, or why not

	StoredOnly bool // it is encrypted, and was compared as it is stored for want of an identity
}

// VerifyRequest asks for a snapshot to be verified.
type VerifyRequest struct {
	Name     string
	Level    Level
	Backend  string                                  // empty: every copy at LevelChecksum, the first one above it
	Progress func(backend string, done, total int64) // optional
}

// Verify reads a snapshot's copies back and proves what they are. The verdict is kept in the catalog. A copy whose bytes, or
// whose manifest, are not what they should be is FAILED from then on, and repair replaces it from a good one; it is READY again
// when it proves to be good. A copy whose bytes are right stays READY whatever they hold: all others hold the same.
//
// The error of a copy that is not what it should be has ReasonChecksumMismatch, ReasonSnapshotUnreadable or
// ReasonManifestUntrusted and comes with the record. Any other error is no verdict; one copy that cannot be read does not
// keep the others from being judged.
func (c *Cluster) Verify(ctx context.Context, req VerifyRequest) (*Record, error) {
	rec, err := c.Get(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	backends, err := c.toVerify(rec, req)
	if err != nil {
		return nil, err
	}
	select {
	case c.verifying <- struct{}{}:
		defer func() { <-c.verifying }()
	case <-ctx.Done():
		return nil, cancelled(ctx, "verify "+req.Name)
	}
	ctx, span := tracer.Start(ctx, "snapshot verify")
	defer func() { endSpan(span, err) }()
	span.SetAttributes(attribute.String("cluster", c.cfg.Name), attribute.String("snapshot", rec.Name), attribute.String("level", req.Level.String()))
	rec, err = c.verify(ctx, rec, req, backends)
	return rec, err
}

// toVerify returns the backends whose copies a request is about.
func (c *Cluster) toVerify(rec *Record, req VerifyRequest) ([]Backend, error) {
	if req.Level < LevelChecksum || req.Level > LevelDrill {
		return nil, Invalid("level", "is none of CHECKSUM, STRUCTURE and DRILL")
	}
	if rec.State == StateSaving {
		return nil, c.saveInProgress(fmt.Sprintf("and %s is what it saves", rec.Name))
	}
	if req.Backend != "" && c.backend(req.Backend) == nil {
		return nil, Invalid("backend", "cluster %q has no backend %q; it has %s", c.cfg.Name, req.Backend, listed(c.BackendNames()))
	}
	all := c.copiesOf(rec, req.Backend, func(l *Location) bool { return req.Backend != "" || l.State == StateReady })
	if len(all) == 0 { // what was damaged may have been put right by hand
		all = c.copiesOf(rec, req.Backend, func(l *Location) bool { return l.State == StateFailed })
	}
	if len(all) == 0 {
		return nil, &Error{
			Reason: ReasonCopyMissing, Backend: req.Backend, Message: fmt.Sprintf("verify %s: there is no copy of it", rec.Name),
			Hint: "get shows where it is; choose one of these backends, or repair it first",
		}
	}
	if req.Level > LevelChecksum && req.Backend == "" {
		all = all[:1]
	}
	return all, nil
}

// copiesOf returns the backends, or the one of a name, with a copy for which which is true.
func (c *Cluster) copiesOf(rec *Record, backend string, which func(*Location) bool) []Backend {
	var all []Backend
	for _, b := range c.cfg.Backends {
		l := rec.Location(b.Name())
		if l != nil && l.Size > 0 && (backend == "" || b.Name() == backend) && which(l) {
			all = append(all, b)
		}
	}
	return all
}

// verification is one Verify.
type verification struct {
	*Cluster
	req     VerifyRequest
	verdict Verification

	good      []string         // backends
	deleted   error            // a copy was, while it was to be verified
	damaged   map[string]error // by backend: copies whose bytes or manifest are not what they should be
	disproved bool             // the bytes are right, and what they hold is not
	first     error            // why it did not pass
	unread    error            // why some copy got no verdict
}

// verify checks the copies one after the other and puts the verdict into the record.
func (c *Cluster) verify(ctx context.Context, rec *Record, req VerifyRequest, backends []Backend) (*Record, error) {
	begin := c.cfg.Now()
	v := &verification{Cluster: c, req: req, verdict: Verification{Level: req.Level, Time: begin.UTC()}, damaged: map[string]error{}}
	for _, b := range backends {
		err := v.judge(ctx, rec, b)
		if ctx.Err() != nil {
			return nil, cancelled(ctx, "verify "+rec.Name)
		}
		if errors.Is(err, errNotThere) {
			deleted, cerr := v.whyDeleted(ctx, rec, b)
			if deleted != nil {
				v.deleted = deleted
				continue
			}
			err = cmp.Or(cerr, err) // nobody knows whether it should be there
		}
		v.note(ctx, rec, b, err)
	}
	if v.first == nil && len(v.good) == 0 || v.first == nil && v.unread != nil {
		return nil, cmp.Or(v.unread, v.deleted)
	}
	v.verdict.Passed = v.first == nil
	if v.first != nil {
		v.verdict.Error = v.first.Error()
	}
	v.verdict.Duration = c.cfg.Now().Sub(begin)
	c.cfg.Observer.Verified(ctx, &rec.Snapshot, v.verdict)
	rec, err := v.record(ctx, rec)
	if err != nil {
		return nil, errors.Join(v.first, err)
	}
	if v.first == nil {
		if req.Level == LevelDrill {
			c.cfg.Observer.Proven(ctx, c.cfg.Name, rec.Revision, rec.Proven)
		}
		c.log.InfoContext(ctx, "snapshot verified", "snapshot", rec.Name, "verification", req.Level.String(), "backends", v.verdict.Backends, "duration", v.verdict.Duration)
	}
	return rec, errors.Join(v.first, v.unread)
}

// judge checks the copy on one backend, twice when it seems to be damaged: what a network did to it is not its fault.
func (v *verification) judge(ctx context.Context, rec *Record, b Backend) error {
	checked, err := v.check(ctx, rec, v.req, b)
	if isDamage(err) && ctx.Err() == nil {
		v.log.WarnContext(ctx, "stored copy seems to be damaged; it is read again", "snapshot", rec.Name, "backend", b.Name(), "error", err)
		checked, err = v.check(ctx, rec, v.req, b)
	}
	if err != nil {
		return err
	}
	v.verdict.StoredOnly = !checked.Decoded
	if v.req.Level == LevelDrill {
		v.verdict.HashKV = checked.HashKV
		v.verdict.Live, err = v.compareLive(ctx, rec, checked)
	}
	return err
}

// whyDeleted says of a copy that is not there that somebody has asked for that meanwhile, and nil when nobody has. The error
// is that the catalog cannot tell.
func (v *verification) whyDeleted(ctx context.Context, rec *Record, b Backend) (deleted, err error) {
	now, err := v.Get(ctx, rec.Name)
	switch {
	case ReasonOf(err) == ReasonSnapshotNotFound:
		return err, nil
	case err != nil:
		return nil, err
	}
	if l := now.Location(b.Name()); l != nil && l.State != StateDeleting {
		return nil, nil
	}
	return &Error{Reason: ReasonCopyMissing, Backend: b.Name(), Message: fmt.Sprintf("verify %s: the copy was deleted meanwhile", rec.Name)}, nil
}

// note notes what judging a copy has come to.
func (v *verification) note(ctx context.Context, rec *Record, b Backend, err error) {
	switch {
	case err == nil:
		v.good = append(v.good, b.Name())
	case !isDamage(err):
		v.unread = cmp.Or(v.unread, err)
		return
	case ReasonOf(err) != ReasonSnapshotUnreadable:
		v.log.ErrorContext(ctx, "stored copy is damaged", "snapshot", rec.Name, "backend", b.Name(), "error", err)
		v.damaged[b.Name()] = err
	default:
		v.log.ErrorContext(ctx, "snapshot did not pass", "snapshot", rec.Name, "backend", b.Name(), "error", err)
		v.disproved = v.disproved || !errors.Is(err, errNotThere)
	}
	v.verdict.Backends = append(v.verdict.Backends, b.Name())
	v.first = cmp.Or(v.first, err)
}
