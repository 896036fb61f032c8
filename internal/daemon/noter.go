package daemon

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/server/status"
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
		notes.Breaks = joined(notes.Breaks, all, time.Now())
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
	if noted != nil && noted.Is(is, tellEvery/2) {
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
	l := listing{whole: len(away) == 0, on: map[string][]segments.Ref{}}
	var all []journal.Listing
	for _, p := range there {
		l.whole = l.whole && snapshot.NodeOf(p.Repository.Name()) == ""
		all = append(all, listed{p.Segments, l.on})
	}
	l.Window = journal.Look(ctx, all)
	l.whole = l.whole && len(l.Unread) == 0
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return n.catalog.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) { notes.Breaks = l.seen(notes.Breaks, now) })
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

// listed remembers the segments that a backend lists.
type listed struct {
	journal.Listing
	on map[string][]segments.Ref // by backend
}

// Every implements [journal.Listing].
func (l listed) Every(ctx context.Context) iter.Seq2[segments.Item, error] {
	return func(yield func(segments.Item, error) bool) {
		for item, err := range l.Listing.Every(ctx) {
			if err == nil {
				l.on[l.Name()] = append(l.on[l.Name()], item.Ref)
			}
			if !yield(item, err) {
				return
			}
		}
	}
}

// listing is what the backends show of a journal.
type listing struct {
	journal.Window
	whole bool                      // this is all that there is
	on    map[string][]segments.Ref // by backend
}

// seen returns the breaks that were noted, less those that ended, with those that only the backends show.
//
// A note is better than a listing: it has the cause, and bounds from the time of the break. A listing may lack a
// directory, and a timeline loses its first segments when nothing needs them.
func (l *listing) seen(noted []snapshot.JournalBreak, now time.Time) []snapshot.JournalBreak {
	fresh := func(b *snapshot.JournalBreak) bool { return now.Sub(b.BeforeTime) < freshBreak }
	noted = slices.DeleteFunc(slices.Clone(noted), func(b snapshot.JournalBreak) bool {
		return ahead(&b, now) || l.whole && !fresh(&b) && (l.filled(&b) || l.outside(&b))
	})
	var shown []snapshot.JournalBreak
	for _, b := range l.Breaks("no backend") {
		if b.BeforeTime.IsZero() { // the manifest behind it cannot be read
			continue
		}
		if ahead(&b.JournalBreak, now) { // the clock was wrong when it came, and is right now
			b.BeforeTime = now
		}
		if i := slices.IndexFunc(noted, func(n snapshot.JournalBreak) bool { return knows(&n, &b) }); i >= 0 {
			if l.whole {
				complete(&noted[i], &b)
			}
		} else if b.Begins && b.Told || !b.Begins && l.whole && !fresh(&b.JournalBreak) {
			shown = append(shown, b.JournalBreak) // the first segments of a timeline are pruned, or elsewhere, without being lost
		}
	}
	return joined(noted, shown, now)
}

// knows reports whether a note is of the break that the backends show. A timeline begins later and later there.
func knows(n *snapshot.JournalBreak, b *journal.Break) bool {
	switch {
	case n.Timeline != b.Timeline || n.Backend != "":
		return false
	case b.Begins:
		return n.Before != 0 && n.Before <= b.Before
	case n.Before == 0:
		return n.After == b.After
	}
	return n.After <= b.After && b.Before <= n.Before
}

// complete adds to a note the bounds that it does not know, and revisions before it that a backend has now.
func complete(n *snapshot.JournalBreak, b *journal.Break) {
	same := n.AfterTime.IsZero() || b.AfterTime.After(n.AfterTime) // an earlier history may have higher numbers
	if n.Before == b.Before && !n.OtherHistory && b.After > n.After && same {
		n.After, n.AfterTime = b.After, b.AfterTime
	}
	if n.Before == 0 && n.After == b.After {
		n.Before = b.Before
	}
}

// filled reports whether a backend has the revisions that were missing: that backend, when it alone lacked them.
func (l *listing) filled(b *snapshot.JournalBreak) bool {
	if b.Before == 0 && b.After > 0 { // its end was not known: it is over, or a gap that is shown is the rest of it
		return slices.ContainsFunc(l.Timelines, func(t journal.Held) bool {
			goesOn := func(r journal.Range) bool { return r.First <= b.After+1 && r.Last > b.After }
			return string(t.Name) == b.Timeline && slices.ContainsFunc(t.Ranges, goesOn)
		})
	}
	if b.Lost() == 0 {
		return false
	}
	if b.Backend != "" {
		return covered(l.on[b.Backend], b)
	}
	within := slices.ContainsFunc(l.Timelines, func(t journal.Held) bool {
		return string(t.Name) == b.Timeline && t.Ranges[0].First <= b.After
	})
	return slices.ContainsFunc(l.Timelines, func(t journal.Held) bool {
		if within && string(t.Name) != b.Timeline || begunBefore(b.Timeline, t.Name) {
			return false
		}
		return slices.ContainsFunc(t.Ranges, func(r journal.Range) bool { // an earlier history may have the same numbers
			return r.First <= b.After+1 && b.Before-1 <= r.Last && !r.LastTime.Before(b.AfterTime)
		})
	})
}

// covered reports whether segments have all revisions that were missing.
func covered(all []segments.Ref, b *snapshot.JournalBreak) bool {
	all = slices.DeleteFunc(slices.Clone(all), func(r segments.Ref) bool { return string(r.Timeline) != b.Timeline })
	slices.SortFunc(all, func(a, b segments.Ref) int { return cmp.Compare(a.First, b.First) })
	next := b.After + 1
	for _, r := range all {
		if r.First <= next {
			next = max(next, r.Last+1)
		}
	}
	return next >= b.Before
}

// outside reports whether the journal begins behind a break.
func (l *listing) outside(b *snapshot.JournalBreak) bool {
	if len(l.Timelines) == 0 {
		return false
	}
	t := &l.Timelines[0]
	if string(t.Name) != b.Timeline {
		return begunBefore(b.Timeline, t.Name)
	}
	return t.Ranges[0].First >= cmp.Or(b.Before, b.After+1)
}

// begunBefore reports whether a timeline has begun before another one.
func begunBefore(name string, other segment.Timeline) bool {
	t := segment.Timeline(name)
	return cmp.Or(t.Start().Compare(other.Start()), cmp.Compare(t, other)) < 0
}

// ahead reports whether a break lies in the future: a clock was wrong, or somebody else wrote it.
func ahead(b *snapshot.JournalBreak, now time.Time) bool {
	return b.BeforeTime.After(now.Add(snapshot.ClockTolerance))
}

// joined returns the breaks of two lists, the oldest first, without those of the future, which would never end. Of two
// that are the same, that of the second list counts.
func joined(noted, more []snapshot.JournalBreak, now time.Time) []snapshot.JournalBreak {
	all := slices.DeleteFunc(slices.Clone(noted), func(b snapshot.JournalBreak) bool {
		return ahead(&b, now) || slices.ContainsFunc(more, func(m snapshot.JournalBreak) bool {
			grown := b.Backend != "" && m.After == b.After // more of it is missing now
			return m.Timeline == b.Timeline && m.Backend == b.Backend && (m.Before == b.Before || grown)
		})
	})
	all = append(all, more...)
	slices.SortStableFunc(all, func(a, b snapshot.JournalBreak) int { return a.BeforeTime.Compare(b.BeforeTime) })
	return all[max(0, len(all)-snapshot.MaxJournalBreaks):]
}
