package keeping

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	firstRound  = time.Minute      // of a term: then it is known how the copies are
	mergeEvery  = 5 * time.Minute  // the live timeline
	repairEvery = 15 * time.Minute // and as soon as something is found to be damaged, or there is more to copy
	tellEvery   = time.Minute
	pruneEvery  = time.Hour // and merge and sweep the timelines of the past, which change seldom, and note the gaps
)

// Config of a [Keeper]. A Window of 0 is as far as there are snapshots; all else is needed.
type Config struct {
	Journal *journal.Journal
	Places  []upkeep.Place
	Window  time.Duration // how far back the journal reaches
	Noter   *Noter
	Logger  *slog.Logger
}

// Keeper keeps the journal of a cluster small and whole on its backends, while this replica leads. Its methods may be
// called at once from several goroutines.
type Keeper struct {
	journal *journal.Journal
	pruner  *upkeep.Pruner
	copies  *upkeep.Copies
	noter   *Noter
	wake    chan struct{} // asks for a repair at once; holds one
	log     *slog.Logger
}

// New returns a keeper. It does nothing by itself.
func New(cfg Config) *Keeper {
	p := &upkeep.Pruner{Places: cfg.Places, Window: cfg.Window}
	return &Keeper{
		journal: cfg.Journal, pruner: p, copies: &upkeep.Copies{Pruner: p}, noter: cfg.Noter, wake: make(chan struct{}, 1),
		log: cfg.Logger,
	}
}

// Run merges, repairs and prunes until ctx, the term of a leader, ends. It begins with a pause: the term may not last.
func (k *Keeper) Run(ctx context.Context) {
	var watch sync.WaitGroup
	defer watch.Wait()
	watch.Go(func() { k.watch(ctx) })
	watch.Go(func() { k.tell(ctx) })
	// Another replica may have repaired, or found damage, since the last term of this one.
	k.copies.Forget()
	var (
		past   = due{every: pruneEvery} // the merge of the timelines of the past
		repair = due{every: repairEvery}
		// Not in the first round: removing can wait, and the term may be short.
		prune = due{every: pruneEvery, last: time.Now()}
		note  = due{every: pruneEvery}
	)
	for pause := firstRound; ; pause = mergeEvery {
		woken, err := k.wait(ctx, pause)
		if err != nil {
			return
		}
		// One after the other, and merges first: a repair copies fewer objects then, and a prune lists fewer.
		live, all := k.journal.Live(), past.now()
		for _, p := range k.pruner.Places {
			woken = k.merge(ctx, p, live, all) || woken
		}
		if woken {
			repair.soon()
		}
		if live == "" {
			continue // it is not known what must stay
		}
		if repair.now() && k.repair(ctx, live) {
			repair.soon() // it has left something
		}
		if prune.now() {
			k.prune(ctx, live)
		}
		if note.now() {
			k.note(ctx)
		}
	}
}

// watch looks for a timeline of another replica. A later one hides all that is added, however long a merge takes.
func (k *Keeper) watch(ctx context.Context) {
	for backoff.Wait(ctx, backoff.Spread(mergeEvery, 0.1)) == nil {
		if err := k.journal.Overtaken(ctx); err != nil && ctx.Err() == nil {
			k.log.ErrorContext(ctx, "journal of other replicas is not seen", "next_in", mergeEvery, "error", err)
		}
	}
}

// tell tells the other replicas where the journal is behind or damaged. It begins with a pause: the term may not last.
func (k *Keeper) tell(ctx context.Context) {
	var noted *snapshot.JournalTrouble // by this term
	for backoff.Wait(ctx, backoff.Spread(tellEvery, 0.1)) == nil {
		noted = k.noter.trouble(ctx, k.Points(k.journal.Status()), noted)
	}
}

// wait waits for the next round, and reports whether a repair is asked for.
func (k *Keeper) wait(ctx context.Context, pause time.Duration) (woken bool, err error) {
	next := time.NewTimer(backoff.Spread(pause, 0.1))
	defer next.Stop()
	select {
	case <-next.C:
		return false, nil
	case <-k.wake:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// merge merges what can be merged on one backend, of the live timeline or of all. Without an identity, encrypted
// segments stay as they are. It reports whether a segment was found to be damaged that was not known to be.
func (k *Keeper) merge(ctx context.Context, p upkeep.Place, live segment.Timeline, all bool) (damaged bool) {
	log := k.log.With("backend", p.Segments.Name())
	timelines, err := p.Segments.Timelines(ctx)
	unmerged(ctx, log, err)
	written, removed := 0, 0
	for i, t := range timelines {
		// While no timeline is live, the newest may be: etcd may be away, and a term goes on.
		if !all && t != live && (live != "" || i < len(timelines)-1) {
			continue
		}
		done, err := upkeep.Merge(ctx, p.Segments, t, time.Now())
		written, removed = written+done.Written, removed+done.Removed
		for r, why := range done.Damaged {
			if k.copies.Found(p.Segments.Name(), r, why) {
				k.noteDamage(ctx, upkeep.Damage{Backend: p.Segments.Name(), Segment: r, Err: why})
				damaged = true
			}
		}
		unmerged(ctx, log, err)
	}
	if written > 0 || removed > 0 {
		log.InfoContext(ctx, "journal merged", "segments", removed, "into", written)
	}
	return damaged
}

// unmerged logs why a timeline, or a part of it, is not merged.
func unmerged(ctx context.Context, log *slog.Logger, err error) {
	switch {
	case err == nil || ctx.Err() != nil:
	// Without an identity it is so at each merge, as it was configured: nothing to tell of every five minutes.
	case snapshot.ReasonOf(err) == snapshot.ReasonSnapshotSealed:
		log.DebugContext(ctx, "journal is not merged", "error", err)
	default:
		log.ErrorContext(ctx, "journal is not merged", "next_in", mergeEvery, "error", err)
	}
}

// note notes the gaps that the backends show, after what nothing needs any more was removed.
func (k *Keeper) note(ctx context.Context) {
	if err := k.noter.look(ctx, k.pruner.Places, time.Now()); err != nil && ctx.Err() == nil {
		k.log.WarnContext(ctx, "gaps of the journal are not noted in the catalog", "next_in", pruneEvery, "error", err)
	}
}

// prune removes what nothing needs any more.
func (k *Keeper) prune(ctx context.Context, live segment.Timeline) {
	n, err := k.pruner.Prune(ctx, live, time.Now())
	if err != nil && ctx.Err() == nil {
		k.log.ErrorContext(ctx, "journal is not pruned", "next_in", pruneEvery, "error", err)
	}
	if n > 0 {
		k.log.InfoContext(ctx, "journal pruned", "segments", n)
	}
	// Also after a prune that failed: leftovers are known as such without the snapshots.
	swept, err := k.copies.Sweep(ctx, live, time.Now())
	if err != nil && ctx.Err() == nil {
		k.log.ErrorContext(ctx, "leftovers of the journal are not swept", "next_in", pruneEvery, "error", err)
	}
	if swept != (upkeep.Swept{}) {
		k.log.InfoContext(ctx, "leftovers of the journal swept", "objects", swept.Objects, "timelines", swept.Timelines)
	}
}

// Plan returns what the next prune would remove.
func (k *Keeper) Plan(ctx context.Context) ([]upkeep.Removal, error) {
	return k.pruner.Plan(ctx, k.journal.Live(), time.Now())
}
