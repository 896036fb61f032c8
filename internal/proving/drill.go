package proving

import (
	"context"
	"errors"
	"fmt"

	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/snapshot"
)

// draws is how often a revision is drawn at most until one can be restored: others may be in holes.
const draws = 20

// errNothing: no revision can be drawn.
var errNothing = errors.New("no snapshot has a journal behind it yet")

// theDrill is what is noted when no revision can be drilled. No snapshot has this name.
const theDrill = ""

// noteUndrilled logs once that a revision cannot be decrypted here. That is no fault of the scrub: the stored bytes are
// compared all the same.
func (p *Prover) noteUndrilled(ctx context.Context) {
	p.note(ctx, theDrill, noIdentity, "no revision of the recovery window is drilled")
}

// Drill restores a random revision of the recovery window into a throw-away etcd. A verdict that it did not pass is an
// error, too. Without anything to restore it does nothing, and neither when that cannot be decrypted here.
func (p *Prover) Drill(ctx context.Context) error {
	if err := p.take(ctx); err != nil {
		return err
	}
	defer func() { <-p.turn }()
	records, err := p.records(ctx, 0)
	if err != nil {
		return err
	}
	t, base, revision, err := p.draw(plan.Load(ctx, p.places), records)
	if errors.Is(err, errNothing) {
		return nil
	}
	if err != nil {
		return err
	}
	if p.withoutIdentity(base) {
		p.noteUndrilled(ctx)
		return nil
	}
	release, err := p.cfg.Turn(ctx)
	if err != nil {
		return err
	}
	defer release()
	if why := p.obstacle(t, base, base); why != "" {
		return fmt.Errorf("drill revision %d of the journal %s: %s", revision, t.Name, why)
	}
	return p.drill(ctx, t, base, revision)
}

// drill restores a revision, and notes the verdict. One that it did not pass is an error, too.
func (p *Prover) drill(ctx context.Context, t *plan.Timeline, base *snapshot.Record, revision int64) error {
	opts, backends := p.options(base)
	opts.Choice = restore.Choice{}
	d := &snapshot.JournalDrill{Revision: revision, Timeline: string(t.Name), Base: base.Name}
	d.Verdict = snapshot.Verification{Level: snapshot.LevelDrill, Time: p.cfg.Now().UTC(), Backends: backends}
	log := p.cfg.Logger.With("timeline", t.Name, "revision", revision)
	replayed, drilled, err := restore.DrillAt(ctx, opts, t.Name, revision)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case snapshot.ReasonOf(err) == snapshot.ReasonSnapshotSealed: // a segment behind the snapshot
		p.noteUndrilled(ctx)
		return nil
	case err != nil && !restore.IsVerdict(err):
		return err
	case err != nil:
		log.ErrorContext(ctx, "revision of the recovery window cannot be restored", "error", err)
		d.Verdict.Error = err.Error()
	default:
		delete(p.noted, theDrill)
		log.InfoContext(ctx, "revision of the recovery window was restored", "base", replayed.Base,
			"segments", len(replayed.Segments),
			"hash_kv", drilled.HashKV)
		d.Verdict.Passed, d.Verdict.HashKV = true, drilled.HashKV
	}
	d.Verdict.Duration = p.cfg.Now().Sub(d.Verdict.Time)
	p.cfg.Checked(ctx, KindRevision, err == nil)
	return errors.Join(err, p.cfg.Drilled(ctx, d))
}

// reach is the revisions of a timeline behind its oldest snapshot.
type reach struct {
	timeline    *plan.Timeline
	first, last int64
}

// draw returns a random revision, and the snapshot from which the journal leads to it.
func (p *Prover) draw(j *plan.Journal, records []*snapshot.Record) (*plan.Timeline, *snapshot.Record, int64, error) {
	var all []reach
	total := int64(0)
	for _, t := range j.Timelines {
		r := reach{timeline: t, last: t.Last()}
		for _, rec := range records {
			leads := t.Leads(rec.EtcdClusterID, rec.CreateTime, rec.Revision)
			if leads && (r.first == 0 || rec.Revision+1 < r.first) {
				r.first = rec.Revision + 1
			}
		}
		if r.first > 0 && r.first <= r.last {
			all, total = append(all, r), total+r.last-r.first+1
		}
	}
	if total == 0 {
		return nil, nil, 0, errNothing
	}
	for range draws {
		n := p.cfg.Rand(total)
		for _, r := range all {
			if size := r.last - r.first + 1; n >= size {
				n -= size
				continue
			}
			revision := r.first + n
			if b := below(r.timeline, records, revision); b != nil && r.timeline.Hole(b.Revision, revision) == nil {
				return r.timeline, b, revision, nil
			}
			break
		}
	}
	return nil, nil, 0, fmt.Errorf("drill a revision of the journal: of %d that were drawn, all are lost", draws)
}

// below returns the newest snapshot of a timeline at a revision or before.
func below(t *plan.Timeline, records []*snapshot.Record, revision int64) (found *snapshot.Record) {
	for _, rec := range records {
		leads := rec.Revision <= revision && t.Leads(rec.EtcdClusterID, rec.CreateTime, rec.Revision)
		if leads && (found == nil || rec.Revision > found.Revision) {
			found = rec
		}
	}
	return found
}
