package daemon

import (
	"context"
	"log/slog"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	mergeEvery = 5 * time.Minute
	pruneEvery = time.Hour
)

// keeper keeps the journal of a cluster small on its backends, while this replica leads.
type keeper struct {
	*upkeep.Pruner
	log *slog.Logger
}

// run merges and prunes until ctx ends. It begins with a pause: the leadership may not last.
func (k keeper) run(ctx context.Context, j *journal.Journal) {
	pruned := time.Now()
	for backoff.Wait(ctx, backoff.Spread(mergeEvery, 0.1)) == nil {
		if err := j.Overtaken(ctx); err != nil && ctx.Err() == nil {
			k.log.ErrorContext(ctx, "journal of other replicas is not seen", "next_in", mergeEvery, "error", err)
		}
		for _, p := range k.Places {
			k.merge(ctx, p)
		}
		if time.Since(pruned) < pruneEvery {
			continue
		}
		live := j.Live()
		if live == "" {
			continue // it is not known what must stay
		}
		pruned = time.Now()
		n, err := k.Prune(ctx, live, time.Now())
		if err != nil && ctx.Err() == nil {
			k.log.ErrorContext(ctx, "journal is not pruned", "next_in", pruneEvery, "error", err)
		}
		if n > 0 {
			k.log.InfoContext(ctx, "journal pruned", "segments", n)
		}
	}
}

// merge merges what can be merged on one backend. Without an identity, encrypted segments stay as they are.
func (k keeper) merge(ctx context.Context, p upkeep.Place) {
	log := k.log.With("backend", p.Segments.Name())
	timelines, err := p.Segments.Timelines(ctx)
	unmerged(ctx, log, err)
	var all upkeep.Merged
	for _, t := range timelines {
		done, err := upkeep.Merge(ctx, p.Segments, t, time.Now())
		all.Written, all.Removed = all.Written+done.Written, all.Removed+done.Removed
		unmerged(ctx, log, err)
	}
	if all.Written > 0 {
		log.InfoContext(ctx, "journal merged", "segments", all.Removed, "into", all.Written)
	}
}

// unmerged logs why a timeline, or a part of it, is not merged.
func unmerged(ctx context.Context, log *slog.Logger, err error) {
	switch {
	case err == nil || ctx.Err() != nil:
	case snapshot.ReasonOf(err) == snapshot.ReasonSnapshotSealed:
		log.DebugContext(ctx, "journal is not merged", "error", err)
	default:
		log.ErrorContext(ctx, "journal is not merged", "next_in", mergeEvery, "error", err)
	}
}
