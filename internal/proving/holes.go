package proving

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	everyHole = time.Hour // between two looks for holes

	// lostAfter is for how long a hole must be there: what waits on the disk of a replica may fill it.
	lostAfter = 50 * time.Minute
)

// hole is revisions between two snapshots that no segment on any backend has.
type hole struct {
	plan.Gap
	since time.Time // it was seen first
}

// Holes lists the journal once an hour, and looks for revisions between two snapshots of a timeline that no backend has
// any more, also before snapshots to which the journal has led once. A hole that two looks in a row find becomes a
// failed verdict of the snapshot behind it. Snapshots that have a failed verdict are left out. It reads listings alone.
//
// Nothing is decided when a backend cannot be listed or is not the store that it was, nor when a backend is a directory
// of one node: another node may have the segment in its own.
func (p *Prover) Holes(ctx context.Context) error {
	now := p.cfg.Now()
	if now.Sub(p.looked) < everyHole {
		return nil
	}
	p.looked = now
	local := func(r *repository.Repository) bool { return snapshot.NodeOf(r.Name()) != "" }
	if slices.ContainsFunc(p.cfg.Repositories, local) {
		return nil
	}
	if err := p.take(ctx); err != nil {
		return err
	}
	defer func() { <-p.turn }()
	for _, r := range p.cfg.Repositories {
		if err := r.OpenVerified(ctx, false); err != nil {
			return err
		}
	}
	j := plan.Load(ctx, p.places)
	if err := errors.Join(j.Unread...); err != nil {
		return err
	}
	records, err := p.records(ctx, 0)
	if err != nil {
		return err
	}
	return p.judge(ctx, j, records, now)
}

// judge gives the verdict on the holes that were there on the last look, too.
func (p *Prover) judge(ctx context.Context, j *plan.Journal, records []*snapshot.Record, now time.Time) error {
	before := p.holes
	p.holes = map[string]hole{}
	var errs []error
	for _, rec := range records {
		if v := rec.JournalProof; v != nil && !v.Passed {
			continue
		}
		t, base := base(j, rec, records)
		if t == nil {
			continue
		}
		gap := t.Hole(base.Revision, rec.Revision)
		if gap == nil {
			continue
		}
		h := before[rec.Name]
		if h.Gap != *gap {
			h = hole{*gap, now}
		}
		if now.Sub(h.since) < lostAfter {
			p.holes[rec.Name] = h
			continue
		}
		p.cfg.Logger.ErrorContext(ctx, "journal lacks revisions on all backends", "timeline", t.Name, "first", gap.First,
			"last", gap.Last, "base", base.Name, "snapshot", rec.Name)
		errs = append(errs, p.record(ctx, rec, p.lost(t, gap, base, now)))
	}
	return errors.Join(errs...)
}

// lost is the verdict that revisions behind a snapshot are on no backend.
func (p *Prover) lost(t *plan.Timeline, gap *plan.Gap, base *snapshot.Record, now time.Time) snapshot.Verification {
	v := snapshot.Verification{
		Level: snapshot.LevelDrill, Time: now.UTC(),
		Error: fmt.Sprintf("the journal %s lacks %s behind %s: no backend has them", t.Name, gap, base.Name),
	}
	for _, r := range p.cfg.Repositories {
		v.Backends = append(v.Backends, r.Name())
	}
	return v
}
