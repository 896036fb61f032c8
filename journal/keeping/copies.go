package keeping

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
)

// repair brings to each backend what it lacks and another one has. It reports whether it has left something that the
// next one brings.
func (k *Keeper) repair(ctx context.Context, live segment.Timeline) (more bool) {
	for _, done := range k.copies.Repair(ctx, live, time.Now()) {
		k.noteCopied(ctx, live, done)
		switch {
		case ctx.Err() != nil:
		case done.Err != nil:
			k.log.ErrorContext(ctx, "journal is not repaired", "backend", done.Backend, "next_in", repairEvery,
				"lacking_revisions", done.Lacking, "error", done.Err)
		case done.Lacking > 0:
			k.log.InfoContext(ctx, "journal is being repaired", "backend", done.Backend, "lacking_revisions", done.Lacking)
		}
		more = more || done.More
	}
	return more
}

// Reconcile compares the copies of the journal for a caller, and repairs them until nothing is left, if the caller asks
// for that.
func (k *Keeper) Reconcile(ctx context.Context, task upkeep.Task) (all []upkeep.Copied) {
	for more := true; more && ctx.Err() == nil; {
		// Asked anew for each share: it takes minutes, and another timeline may have begun.
		task.Live = k.journal.Live()
		more = false
		for i, done := range k.copies.Reconcile(ctx, task, time.Now()) {
			if task.Repair && !task.ValidateOnly {
				k.noteCopied(ctx, task.Live, done)
			}
			if more = more || done.More; i == len(all) {
				all = append(all, done)
				continue
			}
			all[i] = all[i].Then(done)
		}
	}
	return all
}

// noteCopied logs the work of a repair on one backend, and notes it in the journal.
func (k *Keeper) noteCopied(ctx context.Context, live segment.Timeline, done upkeep.Copied) {
	log := k.log.With("backend", done.Backend)
	for _, d := range done.Damaged {
		k.noteDamage(ctx, d)
	}
	for _, r := range done.Replaced {
		log.WarnContext(ctx, "damaged segment of the journal was replaced",
			"timeline", r.Timeline, "level", r.Level, "first", r.First, "last", r.Last)
	}
	if done.Segments > 0 {
		log.WarnContext(ctx, "segments of the journal were copied from another backend",
			"segments", done.Segments, "bytes", done.Bytes)
	}
	k.journal.Filled(done.Backend, live, done.LeadsTo)
}

// noteDamage logs a segment that is not good.
func (k *Keeper) noteDamage(ctx context.Context, d upkeep.Damage) {
	k.log.ErrorContext(ctx, "segment of the journal is damaged, or not trusted; it is replaced when another backend has "+
		"its revisions", "backend", d.Backend, "timeline", d.Segment.Timeline, "level", d.Segment.Level,
		"first", d.Segment.First, "last", d.Segment.Last, "error", d.Err)
}

// Scrub reads a share of the segments of each backend back. The error is of those that are damaged, and of backends
// that could not be read.
func (k *Keeper) Scrub(ctx context.Context, share int) error {
	done, errs := k.copies.Scrub(ctx, share, time.Now())
	for _, d := range done.Damaged {
		k.noteDamage(ctx, d)
		errs = append(errs, d.Err)
	}
	k.log.InfoContext(ctx, "segments of the journal were read back", "segments", done.Segments, "bytes", done.Bytes,
		"damaged", len(done.Damaged))
	if len(done.Damaged) > 0 {
		// One token is enough: a repair looks at all that is known to be damaged.
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
	return errors.Join(slices.Clip(errs)...)
}

// State returns how the copies on a backend are.
func (k *Keeper) State(backend string) upkeep.State { return k.copies.State(backend) }
