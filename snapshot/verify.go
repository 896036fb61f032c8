package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
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
}

// VerifyRequest asks for a snapshot to be verified.
type VerifyRequest struct {
	Name     string
	Level    Level
	Backend  string                                  // empty: every copy at LevelChecksum, the first one above it
	Progress func(backend string, done, total int64) // optional
}

// LiveHash is what the live cluster says of a revision.
type LiveHash struct {
	ClusterID       string // 16 hex digits
	HashKV          uint32
	CompactRevision int64 // two hashes of a revision are of the same keys only when they agree on this
}

// A Hasher is a [Source] that can say the HashKV of a revision.
type Hasher interface {
	HashKV(ctx context.Context, revision int64) (LiveHash, error)
}

// Verify reads a snapshot's copies back and proves what they are. The verdict is kept in the catalog; a copy that is not what
// it should be is FAILED from then on, and repair replaces it from a good one. The error of such a copy has
// ReasonChecksumMismatch or ReasonSnapshotUnreadable and comes with the record; any other error is no verdict.
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
	defer span.End()
	span.SetAttributes(attribute.String("cluster", c.cfg.Name), attribute.String("snapshot", rec.Name), attribute.String("level", req.Level.String()))
	rec, err = c.verify(ctx, rec, req, backends)
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, string(ReasonOf(err)))
	}
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
		return nil, Invalid("backend", "cluster %q has no backend %q; it has %q", c.cfg.Name, req.Backend, c.BackendNames())
	}
	var all []Backend
	for _, b := range c.cfg.Backends {
		l := rec.Location(b.Name())
		if l == nil || l.Size == 0 || req.Backend != "" && b.Name() != req.Backend || req.Backend == "" && l.State != StateReady {
			continue
		}
		all = append(all, b)
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

// verify checks the copies one after the other and puts the verdict into the record. A copy that cannot be reached ends it.
func (c *Cluster) verify(ctx context.Context, rec *Record, req VerifyRequest, backends []Backend) (*Record, error) {
	begin := c.cfg.Now()
	verdict := Verification{Level: req.Level, Passed: true, Time: begin.UTC()}
	damaged := map[string]error{}
	var first error
	for _, b := range backends {
		checked, err := c.check(ctx, rec, req, b)
		if isDamage(err) && ctx.Err() == nil {
			c.log.WarnContext(ctx, "stored copy seems to be damaged; it is read again", "snapshot", rec.Name, "backend", b.Name(), "error", err)
			checked, err = c.check(ctx, rec, req, b) // what a network did to it is not its fault
		}
		if err == nil && req.Level == LevelDrill {
			verdict.HashKV = checked.HashKV
			verdict.Live, err = c.compareLive(ctx, rec, checked)
		}
		verdict.Backends = append(verdict.Backends, b.Name())
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return nil, cancelled(ctx, "verify "+rec.Name)
		case !isDamage(err):
			return nil, err
		}
		c.log.ErrorContext(ctx, "stored copy is damaged", "snapshot", rec.Name, "backend", b.Name(), "error", err)
		damaged[b.Name()] = err
		verdict.Passed = false
		if first == nil {
			first = err
		}
	}
	if first != nil {
		verdict.Error = first.Error()
	}
	verdict.Duration = c.cfg.Now().Sub(begin)
	c.cfg.Observer.Verified(ctx, &rec.Snapshot, verdict)
	rec, err := c.recordVerdict(ctx, rec, verdict, damaged)
	if err != nil {
		return nil, errors.Join(first, err)
	}
	if first == nil && req.Level == LevelDrill {
		c.cfg.Observer.Proven(ctx, c.cfg.Name, rec.Revision, rec.Proven)
	}
	if first == nil {
		c.log.InfoContext(ctx, "snapshot verified", "snapshot", rec.Name, "level", req.Level.String(), "backends", verdict.Backends, "duration", verdict.Duration)
	}
	return rec, first
}

// check verifies the copy on one backend.
func (c *Cluster) check(ctx context.Context, rec *Record, req VerifyRequest, b Backend) (Checked, error) {
	unverified, err := c.openStore(ctx, b, storeCheck{})
	if err = errors.Join(err, unverified); err != nil {
		return Checked{}, err
	}
	if req.Level > LevelChecksum {
		need := rec.DBSize
		if req.Level == LevelDrill {
			need *= 2
		}
		if err := checkSpace(c.cfg.SpoolDir, need); err != nil {
			return Checked{}, err
		}
	}
	check := Check{
		Backend: b, Key: c.key(rec.DataKey()), Record: rec, Level: req.Level, Dir: c.cfg.SpoolDir, Driller: c.cfg.Driller, Identities: c.cfg.Identities,
	}
	if req.Progress != nil {
		check.Progress = func(done, total int64) { req.Progress(b.Name(), done, total) }
	}
	return check.Run(ctx)
}

// compareLive holds a drill's HashKV against the live cluster's, where that still has the revision. What it returns says
// whether it could; the error is that they differ.
func (c *Cluster) compareLive(ctx context.Context, rec *Record, checked Checked) (string, error) {
	hasher, ok := c.cfg.Source.(Hasher)
	if !ok {
		return "not compared: the source has none", nil
	}
	live, err := hasher.HashKV(ctx, checked.Revision)
	switch {
	case ctx.Err() != nil:
		return "", cancelled(ctx, "verify "+rec.Name)
	case err != nil:
		return "not compared: " + messageText(err), nil
	case live.ClusterID != rec.EtcdClusterID:
		return "not compared: the live cluster is another one by now, restored or made anew", nil
	case live.CompactRevision != checked.CompactRevision:
		return "not compared: the live cluster was compacted meanwhile", nil
	case live.HashKV == checked.HashKV:
		return "the same as the live cluster's", nil
	}
	return "not the live cluster's", &Error{
		Reason: ReasonSnapshotUnreadable, Message: fmt.Sprintf("verify %s", rec.Name),
		Err:  fmt.Errorf("HashKV at revision %d is %d, and %d in the live cluster", checked.Revision, checked.HashKV, live.HashKV),
		Hint: "one of the two is damaged: check the members of etcd against each other (etcdctl endpoint hashkv --cluster)",
	}
}

func messageText(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Err == nil {
		return e.Message
	}
	return err.Error()
}

// recordVerdict puts a verdict into the record, also when somebody changes that at the same time.
func (c *Cluster) recordVerdict(ctx context.Context, rec *Record, v Verification, damaged map[string]error) (*Record, error) {
	for range 5 {
		rec = rec.Clone()
		rec.Verification = &v
		switch {
		case !v.Passed:
			rec.Proven = time.Time{}
		case v.Level == LevelDrill:
			rec.Proven = v.Time
		}
		for name, why := range damaged {
			if l := rec.Location(name); l != nil && l.State == StateReady {
				l.State, l.Error, l.UpdateTime = StateFailed, why.Error(), c.cfg.Now().UTC()
				rec.setDamaged(name, true)
				rec.Failures = append(rec.Failures, failureOf(name, why))
			}
		}
		if len(damaged) > 0 {
			setState(&rec.Snapshot)
		}
		err := c.cfg.Catalog.Update(ctx, rec)
		if err == nil {
			c.wakeRepair()
			return rec, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
		if rec, err = c.Get(ctx, rec.Name); err != nil {
			return nil, err
		}
	}
	return nil, &Error{Reason: ReasonConflict, Message: fmt.Sprintf("verify %s: its record was changed again and again meanwhile", rec.Name), Retry: retryAfter(ReasonConflict)}
}

// Scrub says what is verified regularly.
type Scrub struct {
	Share int  // percent of the snapshots by LevelChecksum, those first whose last verification is longest ago
	Drill bool // and the newest by LevelDrill
}

// Scrub verifies a share of the snapshots. What it finds is in the catalog, the log and the metrics; the error is that of
// copies that are damaged, and of those that could not be verified.
func (c *Cluster) Scrub(ctx context.Context, s Scrub) error {
	type candidate struct {
		name     string
		created  time.Time
		verified time.Time
	}
	var all []candidate
	for rec, err := range c.cfg.Catalog.Scan(ctx) {
		if err != nil {
			return err
		}
		if rec.State != StateReady && rec.State != StatePartial {
			continue
		}
		cand := candidate{name: rec.Name, created: rec.CreateTime}
		if rec.Verification != nil {
			cand.verified = rec.Verification.Time
		}
		all = append(all, cand)
	}
	if len(all) == 0 {
		return nil
	}
	var errs []error
	if s.Drill {
		newest := slices.MaxFunc(all, func(a, b candidate) int { return cmp.Or(a.created.Compare(b.created), strings.Compare(a.name, b.name)) })
		_, err := c.Verify(ctx, VerifyRequest{Name: newest.name, Level: LevelDrill})
		errs = append(errs, err)
		all = slices.DeleteFunc(all, func(a candidate) bool { return a.name == newest.name })
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return a.verified.Compare(b.verified) })
	for _, cand := range all[:(len(all)*s.Share+99)/100] {
		_, err := c.Verify(ctx, VerifyRequest{Name: cand.name, Level: LevelChecksum})
		if ctx.Err() != nil {
			return cancelled(ctx, "scrub")
		}
		if ReasonOf(err) != ReasonSnapshotNotFound { // it was deleted meanwhile
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
