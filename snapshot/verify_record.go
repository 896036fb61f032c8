package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// record puts the verdict into the record, also when somebody changes that at the same time.
func (v *verification) record(ctx context.Context, rec *Record) (*Record, error) {
	for range 5 {
		rec = rec.Clone()
		rec.Verification = &v.verdict
		switch {
		case v.disproved:
			rec.Proven = time.Time{}
		case v.verdict.Passed && v.req.Level == LevelDrill:
			rec.Proven = v.verdict.Time
		}
		v.markCopies(rec)
		err := v.cfg.Catalog.Update(ctx, rec)
		if err == nil {
			v.wakeRepair()
			return rec, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, err
		}
		if rec, err = v.Get(ctx, rec.Name); err != nil {
			return nil, err
		}
	}
	return nil, &Error{Reason: ReasonConflict, Message: fmt.Sprintf("verify %s: its record was changed again and again meanwhile", rec.Name), Retry: retryAfter(ReasonConflict)}
}

// markCopies makes the locations say what was found of them.
func (v *verification) markCopies(rec *Record) {
	now, changed := v.cfg.Now().UTC(), false
	for name, why := range v.damaged {
		if l := rec.Location(name); l != nil && l.State == StateReady {
			l.State, l.Error, l.UpdateTime, changed = StateFailed, why.Error(), now, true
			rec.setDamaged(name, ReasonOf(why) == ReasonChecksumMismatch) // what is not trusted, reconcile sees by itself
			rec.Failures = append(rec.Failures, failureOf(name, why))
		}
	}
	for _, name := range v.good {
		if l := rec.Location(name); l != nil && l.State == StateFailed && slices.Contains(rec.Damaged, name) {
			l.State, l.Error, l.UpdateTime, changed = StateReady, "", now, true
			rec.setDamaged(name, false)
			rec.Failures = slices.DeleteFunc(rec.Failures, func(f Failure) bool { return f.Backend == name })
			rec.forgetRepairs()
		}
	}
	if changed {
		setState(&rec.Snapshot)
	}
}
