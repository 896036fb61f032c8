package snapshot

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

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
	latest := c.cfg.Now().Add(ClockTolerance) // what is after that was noted by a clock that was wrong
	for rec, err := range c.cfg.Catalog.Scan(ctx) {
		if err != nil {
			return err
		}
		if rec.State != StateReady && rec.State != StatePartial || len(c.copiesOf(rec, "", func(l *Location) bool { return l.State == StateReady })) == 0 {
			continue // also when all that holds it is configured no more: it would be the first in turn for ever
		}
		cand := candidate{name: rec.Name}
		if !rec.CreateTime.After(latest) {
			cand.created = rec.CreateTime
		}
		if rec.Verification != nil && !rec.Verification.Time.After(latest) {
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
		if r := ReasonOf(err); r != ReasonSnapshotNotFound && r != ReasonCopyMissing { // it was deleted meanwhile
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
