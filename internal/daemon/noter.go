package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	noteRetry, lastNoteRetry = time.Second, time.Minute // to write to the catalog

	// troubleAge is how much newer the state of a backend that is behind may be than its note: one that is as much behind
	// all the time is not written each minute.
	troubleAge = 5 * time.Minute
)

// noter notes in the catalog where the journal of a cluster does not go on: at once when the journal finds it, and as
// the backends show it. So all replicas tell the same, and no backend is asked for that.
type noter struct {
	catalog *catalog.Catalog
	node    string
	log     *slog.Logger

	mu      sync.Mutex
	waiting []snapshot.JournalBreak // found, and not noted yet
	failed  int                     // attempts to note them
	wake    atomic.Pointer[func()]
}

// broken lets breaks be noted. It does not wait.
func (n *noter) broken(where ...snapshot.JournalBreak) {
	n.mu.Lock()
	n.wait(append(n.waiting, where...))
	n.mu.Unlock()
	if wake := n.wake.Load(); wake != nil {
		(*wake)()
	}
}

// wait lets the newest of some breaks wait. The caller holds the lock.
func (n *noter) wait(all []snapshot.JournalBreak) {
	n.waiting = all[max(0, len(all)-snapshot.MaxJournalBreaks):]
}

// run notes what is found, until ctx ends.
func (n *noter) run(ctx context.Context, work *sync.WaitGroup) {
	wake := backoff.Repeat(ctx, work, 0, n.write)
	n.wake.Store(&wake)
}

// write notes what waits, and returns the pause until the next attempt.
func (n *noter) write(ctx context.Context) time.Duration {
	n.mu.Lock()
	all := n.waiting
	n.waiting = nil
	n.mu.Unlock()
	if len(all) == 0 {
		return backoff.Never
	}
	err := n.catalog.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) {
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

// trouble notes where the journal is behind or damaged, unless that was noted, and returns what is noted now: while all is
// well, or nothing moves, the catalog is not asked.
func (n *noter) trouble(ctx context.Context, points []status.Point, noted *snapshot.JournalTrouble) *snapshot.JournalTrouble {
	is := status.Trouble(n.node, points, time.Now())
	if noted != nil && noted.Is(is, troubleAge) {
		return noted
	}
	err := n.catalog.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) { notes.Trouble = is })
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
func (n *noter) look(ctx context.Context, places []upkeep.Place, now time.Time) error {
	there, away := opened(ctx, places)
	if len(there) == 0 {
		return errors.Join(away...)
	}
	l := journal.Shown{Whole: len(away) == 0}
	var all []journal.Listing
	for _, p := range there {
		l.Whole = l.Whole && snapshot.NodeOf(p.Repository.Name()) == ""
		all = append(all, p.Segments)
	}
	l.Window = journal.Look(ctx, all)
	l.Whole = l.Whole && len(l.Unread) == 0
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return n.catalog.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) { notes.Breaks = l.Notes(notes.Breaks, now) })
}

// opened returns the places that are the stores that they were, and why the others are not: a directory that is not
// mounted looks empty.
func opened(ctx context.Context, places []upkeep.Place) (there []upkeep.Place, away []error) {
	for _, p := range places {
		if err := p.Repository.OpenVerified(ctx, false); err != nil {
			away = append(away, err)
			continue
		}
		there = append(there, p)
	}
	return there, away
}
