package keeping

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	noteRetry, lastNoteRetry = time.Second, time.Minute // to write to the catalog

	// troubleAge is how much newer the state of a backend that is behind may be than its note: one that is as much behind
	// all the time is not written each minute.
	troubleAge = 5 * time.Minute
)

// Notes is the notes about a journal in the catalog. It tries again after a change of
// another replica, and after nothing else: the noter keeps the breaks, and tries again after a pause.
type Notes interface {
	// AmendJournalNotes changes what was noted. The change may be made again, to other notes, when another replica has
	// changed them meanwhile.
	AmendJournalNotes(ctx context.Context, change func(*snapshot.JournalNotes)) error
}

// Noter notes in the catalog where the journal of a cluster does not go on: at once when the journal finds it, and as
// the backends show it. So all replicas tell the same, and no backend is asked for that.
type Noter struct {
	notes Notes
	node  string
	log   *slog.Logger

	mu      sync.Mutex
	waiting []snapshot.JournalBreak // found, and not noted yet
	failed  int                     // attempts to note them
	wake    atomic.Pointer[func()]
}

// NewNoter returns a noter of a node.
func NewNoter(n Notes, node string, log *slog.Logger) *Noter {
	return &Noter{notes: n, node: node, log: log}
}

// Broken lets breaks be noted, also before Run. It does not wait: the journal calls it while it follows, and the
// catalog may be away for the same reason for which there is a break.
func (n *Noter) Broken(where ...snapshot.JournalBreak) {
	n.mu.Lock()
	n.wait(append(n.waiting, where...))
	n.mu.Unlock()
	if wake := n.wake.Load(); wake != nil {
		(*wake)()
	}
}

// wait lets the newest of some breaks wait. The caller holds the lock.
func (n *Noter) wait(all []snapshot.JournalBreak) {
	n.waiting = all[max(0, len(all)-snapshot.MaxJournalBreaks):]
}

// Run makes it note what is found, until ctx ends. It does not wait; work does.
func (n *Noter) Run(ctx context.Context, work *sync.WaitGroup) {
	wake := backoff.Repeat(ctx, work, 0, n.write)
	n.wake.Store(&wake)
}

// write notes what waits, and returns the pause until the next attempt.
func (n *Noter) write(ctx context.Context) time.Duration {
	n.mu.Lock()
	// Taken out first: a break that is found while the catalog answers waits for the next attempt.
	all := n.waiting
	n.waiting = nil
	n.mu.Unlock()
	if len(all) == 0 {
		return backoff.Never
	}
	err := n.notes.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) {
		notes.Breaks = journal.JoinBreaks(notes.Breaks, all, time.Now())
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.failed = 0
		if len(n.waiting) == 0 {
			return backoff.Never
		}
		return 0
	}
	n.wait(slices.Concat(all, n.waiting))
	n.failed++
	pause := backoff.Delay(noteRetry, lastNoteRetry, n.failed)
	if ctx.Err() == nil {
		n.log.WarnContext(ctx, "a gap of the journal is not in the catalog yet", "retry_after", pause, "error", err)
	}
	return pause
}

// trouble notes where the journal is behind or damaged, unless that was noted, and returns what is noted now: while all
// is well, or nothing moves, the catalog is not asked.
func (n *Noter) trouble(
	ctx context.Context, points []snapshot.RecoveryPoint, noted *snapshot.JournalTrouble,
) *snapshot.JournalTrouble {
	is := trouble(n.node, points, time.Now())
	// Only news are written: this is asked each minute, for each cluster.
	if noted != nil && noted.Is(is, troubleAge) {
		return noted
	}
	err := n.notes.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) { notes.Trouble = is })
	switch {
	case err == nil:
		return is
	case ctx.Err() == nil:
		n.log.WarnContext(ctx, "the other replicas do not know how far the journal is", "next_in", tellEvery, "error", err)
	}
	return noted
}

// look notes the breaks that the backends show and no note has. When all of them were listed, and no other replica has
// a directory of its own, those that were filled, or lie before all that can be restored, are forgotten.
func (n *Noter) look(ctx context.Context, places []upkeep.Place, now time.Time) error {
	w, away := look(ctx, places)
	// Nothing was seen. With some of them, breaks can be added, though none forgotten.
	if len(away) == len(places) {
		return errors.Join(away...)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	shown := journal.Shown{Window: w, Whole: len(away)+len(w.Unread) == 0 && !slices.ContainsFunc(places, ofNode)}
	return n.notes.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) {
		notes.Breaks = shown.Notes(notes.Breaks, now)
	})
}

// ofNode reports whether a place is a directory of one node: each replica has its own.
func ofNode(p upkeep.Place) bool { return snapshot.NodeOf(p.Repository.Name()) != "" }
