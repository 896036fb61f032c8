package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	noteRetry, lastNoteRetry = time.Second, time.Minute // to write to the catalog

	// freshBreak is how long a break counts as it was noted when it was found, whatever the backends show: parts wait on
	// the disk. It is also how old a gap must be that the backends alone show. The alert of a gap fires as long.
	freshBreak = time.Hour
)

// noter notes in the catalog where the journal of a cluster does not go on: at once when the journal finds it, and as
// the backends show it. So all replicas tell the same, and no backend is asked for that.
type noter struct {
	catalog *catalog.Catalog
	log     *slog.Logger

	mu      sync.Mutex
	waiting []snapshot.JournalBreak // found, and not noted yet
	failed  int                     // attempts to note them
	wake    atomic.Pointer[func()]
}

// broken lets breaks be noted. It does not wait.
func (n *noter) broken(where ...snapshot.JournalBreak) {
	n.mu.Lock()
	n.waiting = append(n.waiting, where...)
	n.mu.Unlock()
	if wake := n.wake.Load(); wake != nil {
		(*wake)()
	}
}

// run notes what is found, until ctx ends.
func (n *noter) run(ctx context.Context, work *sync.WaitGroup) {
	wake := backoff.Repeat(ctx, work, 0, n.write)
	n.wake.Store(&wake)
}

// write notes what waits, and returns the pause until the next attempt.
func (n *noter) write(ctx context.Context) time.Duration {
	n.mu.Lock()
	all := slices.Clone(n.waiting)
	n.mu.Unlock()
	if len(all) == 0 {
		return backoff.Never
	}
	err := n.catalog.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) { notes.Breaks = joined(notes.Breaks, all) })
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.waiting, n.failed = n.waiting[len(all):], 0
		if len(n.waiting) == 0 {
			return backoff.Never
		}
		return 0
	}
	n.failed++
	pause := backoff.Delay(noteRetry, lastNoteRetry, n.failed)
	if ctx.Err() == nil {
		n.log.WarnContext(ctx, "a gap of the journal is not in the catalog yet", "retry_after", pause, "error", err)
	}
	return pause
}

// look notes the breaks that the backends show. When all of them were listed, and no other replica has a directory of
// its own, those that they do not show are forgotten: they were filled, or lie before all that can be restored.
func (n *noter) look(ctx context.Context, places []upkeep.Place, now time.Time) error {
	whole := true
	var listings []journal.Listing
	for _, p := range places {
		if err := p.Repository.OpenVerified(ctx, false); err != nil { // one that is not mounted is empty
			return err
		}
		whole = whole && snapshot.NodeOf(p.Repository.Name()) == ""
		listings = append(listings, p.Segments)
	}
	found := journal.Look(ctx, listings)
	whole = whole && len(found.Unread) == 0
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return n.catalog.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) {
		notes.Breaks = seen(notes.Breaks, found.Breaks("no backend"), whole, now)
	})
}

// seen returns the breaks that were noted, with those that the backends show. whole says that these are all.
func seen(noted []snapshot.JournalBreak, found []journal.Break, whole bool, now time.Time) []snapshot.JournalBreak {
	fresh := func(b *snapshot.JournalBreak) bool { return now.Sub(b.BeforeTime) < freshBreak }
	if whole {
		noted = slices.DeleteFunc(slices.Clone(noted), func(b snapshot.JournalBreak) bool { return !fresh(&b) })
	}
	var shown []snapshot.JournalBreak
	for _, b := range found {
		known := !b.BeforeTime.IsZero() // else the manifest behind it cannot be read
		if known && (b.Begins || whole && !fresh(&b.JournalBreak)) {
			shown = append(shown, b.JournalBreak)
		}
	}
	return joined(noted, shown)
}

// joined returns the breaks of two lists, the oldest first. Of two that are the same, that of the second list counts.
func joined(noted, more []snapshot.JournalBreak) []snapshot.JournalBreak {
	all := slices.DeleteFunc(slices.Clone(noted), func(b snapshot.JournalBreak) bool {
		return slices.ContainsFunc(more, func(m snapshot.JournalBreak) bool {
			return m.Timeline == b.Timeline && m.Before == b.Before && m.Backend == b.Backend
		})
	})
	all = append(all, more...)
	slices.SortStableFunc(all, func(a, b snapshot.JournalBreak) int { return a.BeforeTime.Compare(b.BeforeTime) })
	return all[max(0, len(all)-snapshot.MaxJournalBreaks):]
}
