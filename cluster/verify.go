package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"go.opentelemetry.io/otel/attribute"

	"github.com/snapshotd/snapshotd/cluster/amend"
	"github.com/snapshotd/snapshotd/cluster/scrubbing"
	"github.com/snapshotd/snapshotd/cluster/verifying"
	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Verify reads a snapshot's copies back and proves that they are good. The verdict is kept in the catalog. A copy
// whose bytes or whose manifest are damaged is FAILED from then on, and repair replaces it from a good one; it is
// READY again when it proves to be good. A copy whose bytes are right stays READY even when they cannot be restored:
// all others hold the same bytes.
//
// The error of a damaged copy has ReasonChecksumMismatch, ReasonSnapshotUnreadable or ReasonManifestUntrusted and comes
// with the record. Any other error is no verdict; one copy that cannot be read does not keep the others from being
// verified.
func (c *Cluster) Verify(ctx context.Context, req VerifyRequest) (*snapshot.Record, error) {
	rec, err := c.Get(ctx, req.Name)
	if err != nil {
		return nil, err
	}
	copies, err := c.toVerify(rec, req)
	if err != nil {
		return nil, err
	}
	release, err := c.verifying.Take(ctx, "verify %s", req.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, trace := span.Run(ctx, "snapshot verify", span.Cluster.String(c.cfg.Name), span.Snapshot.String(rec.Name),
		attribute.String("level", req.Level.String()))
	defer func() { trace.End(err) }()
	rec, err = newVerification(c, req).run(ctx, rec, copies)
	return rec, err
}

// toVerify returns the repositories whose copies a request is about.
func (c *Cluster) toVerify(rec *snapshot.Record, req VerifyRequest) ([]*repository.Repository, error) {
	switch {
	case req.Level < snapshot.LevelChecksum || req.Level > snapshot.LevelDrill:
		return nil, snapshot.Invalid("level", "%d is none of CHECKSUM (1), STRUCTURE (2) and DRILL (3)", req.Level)
	case rec.CheckIdle() != nil:
		return nil, rec.CheckIdle()
	}
	if req.Backend != "" {
		name, err := c.named("backend", req.Backend)
		if err != nil {
			return nil, err
		}
		req.Backend = name
	}
	all := c.copiesOf(rec, req.Backend, snapshot.StateReady)
	// A damaged copy may have been replaced by hand. Verifying it is the way to make the service believe in it again.
	if len(all) == 0 {
		all = c.copiesOf(rec, req.Backend, snapshot.StateFailed)
	}
	if len(all) == 0 {
		return nil, c.noCopy("verify", rec, req.Backend)
	}
	// All copies have the same bytes, so one of them is enough for levels above the checksum.
	if req.Level > snapshot.LevelChecksum && req.Backend == "" {
		all = all[:1]
	}
	return all, nil
}

// copiesOf returns the repositories, or the one on a named backend, with a copy in one of some states; without any, in
// all states.
func (c *Cluster) copiesOf(
	rec *snapshot.Record, backend string, states ...snapshot.State,
) (all []*repository.Repository) {
	for _, r := range c.repos {
		l := rec.Location(r.Name())
		if l == nil || l.Size == 0 || backend != "" && r.Name() != backend {
			continue
		}
		if len(states) == 0 || slices.Contains(states, l.State) {
			all = append(all, r)
		}
	}
	return all
}

// noCopy is the error that no copy can be read here. verb names the operation.
func (c *Cluster) noCopy(verb string, rec *snapshot.Record, backend string) error {
	if distant := c.node.ReadyElsewhere(rec); len(distant) > 0 {
		return c.node.OnOther(distant, "%s %s", verb, rec.Name)
	}
	return snapshot.NoGoodCopy(verb, rec.Name, backend)
}

// verification is one Verify.
type verification struct {
	c       *Cluster
	req     VerifyRequest
	verdict snapshot.Verification

	alarms    []string         // inside the database, when it was read
	good      []string         // backends
	deleted   error            // a copy was, while it was to be verified
	damaged   map[string]error // by backend: copies whose bytes or manifest are damaged
	disproved bool             // the bytes are right, and the database in them is not
	first     error            // why it did not pass
	unread    error            // why some copy got no verdict
}

// newVerification returns a verification that has read nothing yet. Its time is that of its beginning: the bytes may
// have been damaged since.
func newVerification(c *Cluster, req VerifyRequest) *verification {
	return &verification{
		c: c, req: req, damaged: map[string]error{},
		verdict: snapshot.Verification{Level: req.Level, Time: c.cfg.Now().UTC()},
	}
}

// run verifies the copies one after the other and puts the verdict into the record.
func (v *verification) run(
	ctx context.Context, rec *snapshot.Record, copies []*repository.Repository,
) (*snapshot.Record, error) {
	for _, r := range copies {
		err := v.verifyCopy(ctx, rec, r)
		// A call that has ended is no verdict: the bytes may not have come because of it.
		if ctx.Err() != nil {
			return nil, snapshot.Cancelled(ctx, "verify %s", rec.Name)
		}
		if errors.Is(err, repository.ErrNotThere) {
			deleted, cerr := v.whyDeleted(ctx, rec, r)
			if deleted != nil {
				v.deleted = deleted
				continue
			}
			err = cmp.Or(cerr, err) // without the catalog it is not known whether it should be there
		}
		v.note(ctx, rec, r.Name(), err)
	}
	// No verdict is better than a wrong one: a copy that could not be read is neither good nor damaged, and nothing
	// is written into the record unless damage was found on another backend.
	if v.first == nil && len(v.good) == 0 || v.first == nil && v.unread != nil {
		return nil, cmp.Or(v.unread, v.deleted)
	}
	v.verdict.Passed = v.first == nil
	if v.first != nil {
		v.verdict.Error = v.first.Error()
	}
	v.verdict.Duration = v.c.cfg.Now().Sub(v.verdict.Time)
	v.c.observe(ctx, v.event(rec))
	rec, err := v.record(ctx, rec)
	if err != nil {
		return nil, errors.Join(v.first, err)
	}
	if v.first == nil {
		if v.req.Level == snapshot.LevelDrill {
			v.c.observe(ctx,
				snapshot.Event{Type: snapshot.EventProven, Name: rec.Name, Revision: rec.Revision, ProvenTime: rec.Proven()})
		}
		v.c.log.InfoContext(ctx, "snapshot verified", "snapshot", rec.Name, "verification", v.req.Level.String(),
			"backends", v.verdict.Backends, "duration", v.verdict.Duration)
	}
	return rec, errors.Join(v.first, v.unread)
}

// verifyCopy checks the copy on one backend, and takes its facts into the verdict.
func (v *verification) verifyCopy(ctx context.Context, rec *snapshot.Record, r *repository.Repository) error {
	how := verifying.Verifying{
		Level: v.req.Level, Dir: v.c.cfg.SpoolDir, Identities: v.c.identitiesFor(rec), Driller: v.c.cfg.Driller,
		Progress: v.req.Progress, Logger: v.c.log,
	}
	how.Live, _ = v.c.cfg.Source.(Hasher)
	found, err := how.Copy(ctx, rec, r)
	if err != nil && found.Live == "" {
		return err // nothing was read that counts
	}
	v.verdict.StoredOnly, v.alarms = !found.Decoded, found.Alarms
	if v.req.Level == snapshot.LevelDrill {
		v.verdict.HashKV, v.verdict.Disarmed, v.verdict.Live = found.HashKV, found.Disarmed, found.Live
	}
	return err
}

// identitiesFor returns the configured identities if one of them can decrypt the snapshot, else none. Then the stored
// bytes are verified all the same: that they are whole can be told without a key.
func (c *Cluster) identitiesFor(rec *snapshot.Record) age.Identities {
	if c.cfg.Identities.Of(rec.EncryptionRecipients) {
		return c.cfg.Identities
	}
	return age.Identities{}
}

// whyDeleted returns an error when a copy that is not there was deleted on request meanwhile, and nil when it was
// not. err is that the catalog does not answer.
func (v *verification) whyDeleted(
	ctx context.Context, rec *snapshot.Record, r *repository.Repository,
) (deleted, err error) {
	now, err := v.c.Get(ctx, rec.Name)
	switch {
	case snapshot.ReasonOf(err) == snapshot.ReasonSnapshotNotFound:
		return err, nil
	case err != nil:
		return nil, err
	}
	if l := now.Location(r.Name()); l != nil && l.State != snapshot.StateDeleting {
		return nil, nil
	}
	return snapshot.ReasonCopyMissing.New("verify %s: the copy was deleted meanwhile", rec.Name).On(r.Name()).Final(), nil
}

// note notes the verdict on the copy of one backend. Damage of the stored bytes is that backend's alone. Bytes that
// are right and hold no database are all backends' fault, because they have the same ones.
func (v *verification) note(ctx context.Context, rec *snapshot.Record, backend string, err error) {
	switch {
	case err == nil:
		v.good = append(v.good, backend)
	case !snapshot.IsDamage(err):
		v.unread = cmp.Or(v.unread, err)
		return
	case snapshot.ReasonOf(err) != snapshot.ReasonSnapshotUnreadable:
		v.c.log.ErrorContext(ctx, "stored copy is damaged", "snapshot", rec.Name, "backend", backend, "error", err)
		v.damaged[backend] = err
	default:
		v.c.log.ErrorContext(ctx, "snapshot did not pass", "snapshot", rec.Name, "backend", backend, "error", err)
		v.disproved = v.disproved || !errors.Is(err, repository.ErrNotThere)
	}
	v.verdict.Backends = append(v.verdict.Backends, backend)
	v.first = cmp.Or(v.first, err)
}

// wrongBytes reports whether the bytes of a damaged copy are wrong: no listing shows that.
func wrongBytes(why error) bool { return snapshot.ReasonOf(why) == snapshot.ReasonChecksumMismatch }

// event returns the event of the verdict.
func (v *verification) event(rec *snapshot.Record) snapshot.Event {
	ev := snapshot.Event{
		Type: snapshot.EventVerified, Name: rec.Name, Snapshot: rec.Clone(), Verification: &v.verdict,
	}
	if !v.verdict.Passed {
		var on []string
		for backend, why := range v.damaged {
			if wrongBytes(why) {
				on = append(on, backend)
			}
		}
		slices.Sort(on)
		ev.Damaged = map[string][]string{rec.Name: on}
	}
	return ev
}

// record puts the verdict into the record, also when another replica changes the record at the same time. Hours of
// reading must not be lost to a change of a label.
func (v *verification) record(ctx context.Context, rec *snapshot.Record) (*snapshot.Record, error) {
	rec, err := amend.Record(ctx, v.c.cfg.Records, rec, func(next *snapshot.Record, _ bool) error {
		next.Verified(v.verdict, v.disproved)
		if v.verdict.Passed && v.req.Level > snapshot.LevelChecksum {
			next.Alarms = v.alarms // records of older versions do not have them
		}
		for backend, why := range v.damaged {
			// Reconcile sees an untrusted manifest by itself; damaged bytes only the record can tell.
			next.CopyFailed(backend, why, wrongBytes(why), v.c.cfg.Now())
		}
		for _, backend := range v.good {
			next.CopyGood(backend, v.c.cfg.Now())
		}
		return nil
	})
	if snapshot.IsNotFound(err) {
		_, err = v.c.Get(ctx, rec.Name)
	}
	if err != nil {
		return nil, err
	}
	v.c.wakeRepair() // a damaged copy is replaced at once, while a good one is there
	return rec, nil
}

// Scrub verifies a share of the snapshots. Its findings are in the catalog, the log and the metrics; the error is
// that of copies that are damaged, and of those that could not be verified.
func (c *Cluster) Scrub(ctx context.Context, s Scrub) error { return c.scrub(ctx, s, "") }

// scrub verifies a share of the copies on a backend, or of the snapshots when it is empty.
func (c *Cluster) scrub(ctx context.Context, s Scrub, backend string) error {
	choice := scrubbing.Choice{
		Records: c.cfg.Records, Backend: backend, Scrubbed: c.scrubs, Now: c.cfg.Now(),
		Readable: func(rec *snapshot.Record) bool { return len(c.copiesOf(rec, backend, snapshot.StateReady)) > 0 },
	}
	all, errs, err := choice.Turns(ctx)
	if err != nil || len(all) == 0 {
		return errors.Join(append(errs, err)...)
	}
	if s.Drill {
		newest := scrubbing.Newest(all)
		_, err := c.Verify(ctx, VerifyRequest{Name: newest.Name, Level: snapshot.LevelDrill})
		errs = append(errs, unlessDeleted(err))
		all = slices.DeleteFunc(all, func(t scrubbing.Turn) bool { return t.Name == newest.Name })
	}
	for _, t := range scrubbing.Due(all, s.Share) {
		_, err := c.Verify(ctx, VerifyRequest{Name: t.Name, Level: snapshot.LevelChecksum, Backend: backend})
		if ctx.Err() != nil {
			return snapshot.Cancelled(ctx, "scrub")
		}
		// The record may not tell: its last verification may be the leader's, of other copies, and while a backend is
		// away there is no verdict on the others. Without this note, every scrub would then read the same snapshots.
		c.scrubs.Put(backend, t.Name, c.cfg.Now(), c.cfg.Now())
		errs = append(errs, unlessDeleted(err))
	}
	return errors.Join(errs...)
}

// unlessDeleted returns err, or nil when it says that the snapshot, or its copy, was deleted meanwhile: a drill may
// wait for hours.
func unlessDeleted(err error) error {
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonSnapshotNotFound, snapshot.ReasonCopyMissing:
		return nil
	}
	return err
}
