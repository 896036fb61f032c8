package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Replayed says how a snapshot was taken forward with the journal.
type Replayed struct {
	Timeline segment.Timeline
	Base     int64 // the revision of the snapshot
	Revision int64 // to which it was taken
	Segments []segments.Ref
	Bytes    int64        // of the segments as they are stored
	Moment   *plan.Moment // of the time that was asked for; nil when a revision was
	Gaps     []plan.Gap   // in the whole timeline
	Crossed  *Crossed     // nil when no gap was crossed

	TotalKeys  int64
	Compacted  int64 // the revision of the last compaction after the snapshot; 0 when there was none
	Leases     LeaseCount
	AuthBehind bool // users or roles were changed after the snapshot, and are not restored
}

// Crossed says which gaps were crossed because the choice says so, and what is known of the result. The cluster never
// had this state: a key that was changed or deleted in a gap, and not written since, has the value of before the gap.
type Crossed struct {
	Gaps    []plan.Crossing // in their order; at least one
	Written int64           // keys that were written or deleted behind the gaps, which are right
	Changed int64           // those of them that show that they were changed in a gap, too
}

// Others returns the gaps of the timeline that were not crossed.
func (r *Replayed) Others() []plan.Gap {
	if r.Crossed == nil {
		return r.Gaps
	}
	return slices.DeleteFunc(slices.Clone(r.Gaps), func(g plan.Gap) bool {
		return slices.ContainsFunc(r.Crossed.Gaps,
			func(c plan.Crossing) bool { return c.First <= g.Last && g.First <= c.Last })
	})
}

// LeaseCount says where the leases of a revision come from.
type LeaseCount struct {
	Exact     int64              // those that keys name, with the time to live that they were granted
	Keyless   int64              // those without keys that the journal shows
	Estimated int64              // those whose time to live is not known
	Keys      int64              // of the estimated ones
	From      []segment.Timeline // those that follow, and have times to live which the one that is replayed lacks
}

// later returns the revision to which the journal goes on behind the latest snapshot; 0 when it does not, or is not
// known to: this is for information only.
func (l *lookback) later(ctx context.Context, rec *snapshot.Record) (revision int64) {
	if !l.Choice.Latest || rec.Revision == 0 {
		return 0
	}
	for _, t := range l.loadJournal(ctx, l.Options).Timelines {
		if last := t.Last(); t.HistoryOf(rec.EtcdClusterID, rec.CreateTime) && last > rec.Revision {
			revision = last
		}
	}
	return revision
}

// loadJournal lists the journal once.
func (l *listing) loadJournal(ctx context.Context, o Options) *plan.Journal {
	if l.journal == nil {
		var places []*segments.Segments
		for _, r := range l.repos {
			places = append(places, segments.New(segments.Config{Repository: r, Identities: o.Identities}))
		}
		l.journal = plan.Load(ctx, places)
	}
	return l.journal
}

// forward takes the newest snapshot that leads to a revision, and adds the journal behind it, maybe over gaps.
func (l *lookback) forward(ctx context.Context, t *plan.Timeline, revision int64, cross bool) error {
	err := l.tryForward(ctx, t, revision, cross)
	if !isGone(err) {
		return err
	}
	// Since the listing, the service may have merged segments into others.
	l.journal = nil
	for _, again := range l.loadJournal(ctx, l.Options).Timelines {
		if again.Name == t.Name {
			return l.tryForward(ctx, again, revision, cross)
		}
	}
	return err
}

func (l *lookback) tryForward(ctx context.Context, t *plan.Timeline, revision int64, cross bool) error {
	var failed error
	for _, h := range l.bases(ctx, t, revision) {
		hole := t.Hole(h.newest, revision)
		if hole != nil && !cross { // an older snapshot is before it, too
			return l.notCovered(ctx, t, revision, &plan.Lost{Gap: *hole, Timeline: t.Name})
		}
		lost := (*lostError)(nil)
		skipped, done, err := h.try(ctx, l.Choice, func(c candidate) error { return l.replay(ctx, c, t, revision, cross) })
		l.leaveOut(skipped...)
		switch {
		case done:
			return nil
		case errors.As(err, &lost) && lost.cause.Refused == plan.RefusedUnknown: // an older snapshot may be of the history
			failed = cmp.Or(failed, error(lost.cause))
			continue
		case errors.As(err, &lost):
			return l.notCovered(ctx, t, revision, lost.cause)
		case err != nil:
			return err
		}
		if unread := firstUnread(skipped); unread != nil && failed == nil {
			failed = unread
		}
	}
	return l.notCovered(ctx, t, revision, failed)
}

// crosses reports whether gaps may be crossed. A backend that cannot be listed may have the revisions.
func (l *lookback) crosses() bool { return l.Choice.CrossGaps && len(l.journal.Unread) == 0 }

// bases returns the snapshots from which a timeline may lead to a revision, the newest first.
func (l *lookback) bases(ctx context.Context, t *plan.Timeline, revision int64) []*held {
	choice := l.Choice
	choice.At = time.Time{} // it says which revision
	var all []*held
	for _, h := range l.survey(ctx) {
		leads := h.newest <= revision && t.Leads(h.cluster, h.created, h.newest)
		if leads && choice.covers(h.copies) && (l.below == 0 || h.newest < l.below) {
			all = append(all, h)
		}
	}
	slices.SortStableFunc(all, func(a, b *held) int { return cmp.Compare(b.newest, a.newest) })
	return all
}

// lostError wraps the reason why the journal does not lead to a revision, whatever the copy of the snapshot.
type lostError struct{ cause *plan.Lost }

// Error implements error.
func (e *lostError) Error() string { return e.cause.Error() }

// replay reads a copy of a snapshot, and adds the journal up to a revision to the database in the file.
func (l *lookback) replay(ctx context.Context, c candidate, t *plan.Timeline, revision int64, cross bool) error {
	found, err := l.look(ctx, c, 0)
	if err != nil {
		return err
	}
	l.read = "" // the file becomes another database
	r := &replay{
		Replayed: &Replayed{Timeline: t.Name, Base: found.Newest(), Revision: revision, Moment: l.moment, Gaps: t.Gaps()},
		options:  l.Options, file: l.file, oldest: found.OldestRevision, compactTo: l.compactTo, cross: cross,
		behind: l.journal.Behind(t, revision),
	}
	r.walk = plan.Walk{Timeline: t, After: r.Base, To: revision, Dir: filepath.Dir(l.file), Fact: r.fact}
	err = r.run(ctx)
	lost := (*plan.Lost)(nil)
	switch {
	case errors.As(err, &lost):
		l.leaveOut(r.walk.Skipped...)
		return &lostError{lost}
	case errors.Is(err, plan.ErrDiffers) && len(r.walk.Crossed) > 0:
		l.leaveOut(err)
		last := r.walk.Crossed[len(r.walk.Crossed)-1]
		return &lostError{&plan.Lost{Gap: last.Gap, Timeline: t.Name, Refused: plan.RefusedUnlinked}}
	case errors.Is(err, plan.ErrDiffers):
		return snapshot.ReasonSnapshotUnreadable.New("%s is no base of the journal %s", c.URI(), t.Name).
			On(c.repo.Name()).Because(err)
	case err != nil:
		return err
	}
	l.leaveOut(r.walk.Skipped...)
	l.res.Snapshot, l.res.URI, l.res.Replayed = c.Record, c.URI(), r.Replayed
	l.res.Past = r.past
	return nil
}

// notCovered is the error that snapshots and journal do not lead to a revision. It names the nearest ones to which they
// do.
func (l *lookback) notCovered(ctx context.Context, t *plan.Timeline, revision int64, cause error) error {
	lost := (*plan.Lost)(nil)
	reason := snapshot.ReasonRevisionNotFound
	errors.As(cause, &lost)
	switch {
	case lost != nil && len(lost.Causes) > 0:
		reason = snapshot.ReasonOf(lost.Causes[0])
	case lost == nil && cause != nil:
		reason = snapshot.ReasonOf(cause)
	case cause == nil:
		cause = l.notBased(ctx, t, revision)
	}
	near := "nothing was restored"
	if lost != nil {
		near += "; " + l.around(ctx, t, lost)
	}
	return reason.New("revision %d cannot be restored from a snapshot and the journal", revision).
		Because(cause).Advise("%s", near)
}

// notBased is the error that no snapshot leads to the journal. The first segments behind one may be missing.
func (l *lookback) notBased(ctx context.Context, t *plan.Timeline, revision int64) error {
	holds := fmt.Sprintf("the journal %s holds the revisions %d to %d", t.Name, t.First(), t.Last())
	var below *held
	for _, h := range l.survey(ctx) {
		before := t.HistoryOf(h.cluster, h.created) && h.newest > 0 && h.newest < t.First()-1
		if before && (below == nil || h.newest > below.newest) {
			below = h
		}
	}
	if below == nil {
		return fmt.Errorf("%s, and no snapshot of that history at or below %d is whole", holds, revision)
	}
	return fmt.Errorf("%s, and the nearest snapshot before it, %s, the revision %d: revisions %d to %d are missing",
		holds, below.name, below.newest, below.newest+1, t.First()-1)
}

// around names the ways out of a gap: the newest revision before it, the first one behind it that a snapshot has, and
// whether it can be crossed.
func (l *lookback) around(ctx context.Context, t *plan.Timeline, lost *plan.Lost) string {
	near := fmt.Sprintf("%d is the newest revision before the gap", lost.First-1)
	above := int64(0)
	for _, h := range l.survey(ctx) {
		if t.HistoryOf(h.cluster, h.created) && h.newest >= lost.Last && (above == 0 || h.newest < above) {
			above = h.newest
		}
	}
	if above > 0 {
		near += fmt.Sprintf(", and %d the first one behind it that a snapshot has", above)
	}
	switch {
	case lost.Refused != "":
		near += fmt.Sprintf("; --cross-gaps cannot lead over it: %s", lost.Refused)
	case l.Choice.CrossGaps && len(l.journal.Unread) > 0:
		near += fmt.Sprintf("; --cross-gaps leads over it only when all backends can be listed, as one may have these "+
			"revisions: %v",
			l.journal.Unread[0])
	default:
		near += "; --cross-gaps leads over it, to a state that the cluster never had: try it with --dry-run"
	}
	return near
}

// endsBelow returns the timeline that ends below a revision, and to whose end a snapshot leads without a hole; of
// several, the one that leads the furthest. It is nil when there is none.
func (l *lookback) endsBelow(ctx context.Context, revision int64) (found *plan.Timeline) {
	for _, t := range l.loadJournal(ctx, l.Options).Timelines {
		if t.Last() >= revision || found != nil && t.Last() < found.Last() {
			continue
		}
		if bases := l.bases(ctx, t, t.Last()); len(bases) > 0 && t.Hole(bases[0].newest, t.Last()) == nil {
			found = t
		}
	}
	return found
}

// journaled takes a snapshot forward to a revision that no snapshot holds.
func (l *lookback) journaled(ctx context.Context, not *notHeldError) error {
	revision, j := not.revision, l.loadJournal(ctx, l.Options)
	var with []*plan.Timeline
	for _, t := range j.Holding(revision) {
		if l.Choice.Name == "" || len(l.bases(ctx, t, revision)) > 0 {
			with = append(with, t)
		}
	}
	switch {
	case len(with) == 0 && len(j.Unread) > 0 && !l.Choice.AcceptOlder:
		return newerMayBe(j.Unread[0])
	case len(with) == 0:
		return l.notHeld(ctx, not)
	case len(with) > 1:
		return twoTimelines(with[0], with[1])
	}
	return l.forward(ctx, with[0], revision, l.crosses())
}

// takeRevision takes a snapshot that holds the revision of the choice, unless a timeline that it is not known to be of
// has another history of it: between two timelines the journal missed something, which may have been a restore of etcd.
// A snapshot that was chosen by its name is not compared.
func (l *lookback) takeRevision(ctx context.Context, c candidate) error {
	revision := l.Choice.Revision
	if err := l.take(ctx, c, revision); err != nil || l.Choice.Name != "" {
		return err
	}
	for _, t := range l.loadJournal(ctx, l.Options).Holding(revision) {
		of := c.EtcdClusterID == "" || t.Name.Of(c.EtcdClusterID)
		if !of || t.HistoryOf(c.EtcdClusterID, c.CreateTime) {
			continue
		}
		w := plan.Walk{Timeline: t, After: revision, To: revision, Dir: filepath.Dir(l.file), Fact: func(segment.Entry) {}}
		err := datadir.Compare(l.file, l.res.Past.Oldest, func(holds func(int64, []datadir.Record) error) error {
			w.Target = compared(holds)
			return w.Run(ctx)
		})
		l.leaveOut(w.Skipped...)
		switch {
		case errors.Is(err, plan.ErrDiffers):
			return snapshot.Invalid("--revision", "it is in more than one history of the cluster: it is another one in the "+
				"journal %s than in %s", t.Name, c.URI()).Because(err).
				Advise("nothing was restored; give the NAME of the right snapshot, too, or a time instead of the revision")
		case err != nil:
			return err
		case !w.Compared() && len(w.Skipped) > 0 && !l.Choice.AcceptOlder:
			// The fault is not of this snapshot's copy: no other one is tried.
			return snapshot.Invalid("--revision", "the journal %s has it, too, and cannot be compared with %s", t.Name, c.URI()).
				Because(w.Skipped[0]).Advise("nothing was restored; give the NAME of the right snapshot, too, or --accept-older")
		}
	}
	return nil
}

// twoTimelines is the error that a revision is another one in each of two histories.
func twoTimelines(a, b *plan.Timeline) error {
	return snapshot.Invalid("--revision", "it is in more than one history of the cluster, because etcd was restored: in "+
		"the journal %s, which ended at %s, and in %s, which began then",
		a.Name, a.End.UTC().Format(time.RFC3339), b.Name).
		Advise("nothing was restored; give the NAME of a snapshot of the right one, too, or a time instead of the revision")
}

// oneTimeline returns an error when a revision may be in several histories: snapshots that hold it, which are in the
// order of their time, and timelines of the journal that do, are on both sides of the beginning of a timeline that
// began because etcd was restored.
func (l *lookback) oneTimeline(ctx context.Context, holders []*held) error {
	if len(holders) == 0 {
		return nil
	}
	type place struct {
		time time.Time
		name string
	}
	var places []place
	for _, h := range []*held{holders[0], holders[len(holders)-1]} {
		places = append(places, place{h.created, h.name + " of " + h.created.UTC().Format(time.RFC3339)})
	}
	j := l.loadJournal(ctx, l.Options)
	for _, t := range j.Holding(l.Choice.Revision) {
		places = append(places, place{t.Name.Start(), fmt.Sprintf("the journal %s", t.Name)})
	}
	byTime := func(a, b place) int { return a.time.Compare(b.time) }
	first, last := slices.MinFunc(places, byTime), slices.MaxFunc(places, byTime)
	for _, t := range j.Timelines {
		if start := t.Name.Start(); first.time.Before(start) && !last.time.Before(start) && t.OfRestored(ctx) {
			return snapshot.Invalid("--revision", "it may be in more than one history of the cluster, because etcd was "+
				"restored: in %s and in %s, and the journal %s began between them", first.name, last.name, t.Name).
				Advise("nothing was restored; give the NAME of the right snapshot, too, or a time instead of the revision")
		}
	}
	return nil
}
