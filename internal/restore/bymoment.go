package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/snapshot"
)

// byJournal looks for the revision at the time of the choice in the journal, and notes it when a snapshot leads there.
// It does not when the journal shows none, or when a snapshot of that time or before is newer than all that the journal
// has.
func (l *lookback) byJournal(ctx context.Context) error {
	c := &l.Choice
	if c.At.IsZero() || c.Name != "" || c.Latest {
		return nil
	}
	m, skipped, err := l.momentOf(ctx)
	if err != nil {
		return err
	}
	l.leaveOut(skipped...)
	// Only a proof that nothing is missing makes up for a backend that cannot be listed, or a segment that it does not
	// give.
	unread := append(slices.Clone(l.journal.Unread), awayBehind(m, skipped)...)
	if len(unread) > 0 && !c.AcceptOlder && (m == nil || m.Upper == 0 || m.Gap != nil) {
		return newerMayBe(unread[0])
	}
	if m == nil || l.newerThan(ctx, m) {
		return nil
	}
	if len(l.bases(ctx, m.Timeline, m.Revision)) == 0 {
		if l.holders = l.holdersOf(ctx, m); len(l.holders) > 0 {
			l.moment = m
			return nil
		}
		l.leaveOut(fmt.Errorf("the journal %s shows revision %d at that time, and no snapshot of its "+
			"history from which its changes could be added", m.Timeline.Name, m.Revision))
		return nil
	}
	l.moment = m
	return nil
}

// awayBehind returns why segments behind a moment could not be read though they are not damaged: the revision may be a
// later one.
func awayBehind(m *plan.Moment, skipped []error) (all []error) {
	for _, err := range skipped {
		lost, is := errors.AsType[*plan.Lost](err)
		if !is || m != nil && lost.Timeline == m.Timeline.Name && lost.Last <= m.Revision {
			continue
		}
		for _, cause := range lost.Causes {
			if !snapshot.IsDamage(cause) {
				all = append(all, cause)
			}
		}
	}
	return all
}

// isGone reports whether the objects of a segment were there when they were listed, and are not any more.
func isGone(err error) bool {
	lost, is := errors.AsType[*plan.Lost](err)
	return is && slices.ContainsFunc(lost.Causes, snapshot.IsNotFound)
}

// momentOf returns what the journal shows of the time of the choice, nil when nothing was journaled then, and which
// segments could not be read.
func (l *lookback) momentOf(ctx context.Context) (m *plan.Moment, skipped []error, err error) {
	if len(l.loadJournal(ctx, l.Options).Timelines) == 0 {
		return nil, nil, nil // most clusters have no journal
	}
	work, done, err := makeWork(l.DataDir)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	at := l.Choice.latest()
	m, skipped, err = l.timely(l.journal).Moment(ctx, at, work)
	if err == nil && slices.ContainsFunc(skipped, isGone) {
		// Since the listing, the service may have merged segments into others.
		l.journal = nil
		m, skipped, err = l.timely(l.loadJournal(ctx, l.Options)).Moment(ctx, at, work)
	}
	if m != nil {
		m.Time = l.Choice.At
	}
	return m, skipped, err
}

// timely leaves the timelines out that claim to begin in the future, as snapshots that do: a clock that was wrong has
// named them, and the journal has gone on in others since. When all of them do, it is this machine's clock that is
// wrong.
func (l *lookback) timely(j *plan.Journal) *plan.Journal {
	ahead := func(t *plan.Timeline) bool { return l.Choice.ahead(t.Name.Start()) }
	some := slices.DeleteFunc(slices.Clone(j.Timelines), ahead)
	if len(some) == 0 || len(some) == len(j.Timelines) {
		return j
	}
	for _, t := range j.Timelines {
		if ahead(t) {
			l.leaveOut(fmt.Errorf("the journal %s claims to begin at %s, which is in the future; give one of its revisions "+
				"to restore it",
				t.Name, t.Name.Start().UTC().Format(time.RFC3339)))
		}
	}
	return &plan.Journal{Timelines: some, Unread: j.Unread}
}

// latest returns the time up to which arrivals count. For --at 0s that is any time: all that is journaled has arrived
// by now, even if a wrong clock stamped it later. Any other time is as it was given, also one of the future.
func (c *Choice) latest() time.Time {
	if c.At.Equal(c.Now) {
		return segment.MaxTime
	}
	return c.At
}

// holdersOf returns the later snapshots of the timeline that can be taken back to the revision of a moment, the nearest
// first: the timeline had begun then, and its first snapshot was still to come, or the journal has a gap.
func (l *lookback) holdersOf(ctx context.Context, m *plan.Moment) (all []*held) {
	for _, h := range l.survey(ctx) {
		if m.Timeline.HistoryOf(h.cluster, h.created) && 0 < h.oldest && h.oldest <= m.Revision && m.Revision <= h.newest {
			all = append(all, h)
		}
	}
	return all
}

// takeHolder takes one of some snapshots back to the revision of the moment. It reports whether it did: all may be
// damaged.
func (l *lookback) takeHolder(ctx context.Context, holders []*held) (done bool, err error) {
	var unread error
	for _, h := range holders {
		take := func(c candidate) error { return l.take(ctx, c, l.moment.Revision) }
		failed, done, err := h.try(ctx, Choice{Name: h.name}, take)
		l.leaveOut(failed...)
		if done || err != nil {
			l.res.Moment = l.moment
			return done, err
		}
		unread = cmp.Or(unread, firstUnread(failed))
	}
	if unread != nil && !l.Choice.AcceptOlder {
		return false, newerMayBe(unread)
	}
	return false, nil
}

// takeBack takes a holder back to the revision of the moment. When all are damaged, the newest snapshot of the time or
// before is all that is left.
func (l *lookback) takeBack(ctx context.Context) error {
	if done, err := l.takeHolder(ctx, l.holders); done || err != nil {
		return err
	}
	return l.takeNewest(ctx)
}

// toMoment leads to the revision of the moment. When the journal lacks revisions on the way, a later snapshot may hold
// it with all of its changes. Gaps are crossed when there is none.
func (l *lookback) toMoment(ctx context.Context) error {
	m := l.moment
	err := l.forward(ctx, m.Timeline, m.Revision, false)
	if lost := (*plan.Lost)(nil); !errors.As(err, &lost) {
		return err
	}
	if done, herr := l.takeHolder(ctx, l.holdersOf(ctx, m)); done || herr != nil {
		return herr
	}
	if l.crosses() {
		return l.forward(ctx, m.Timeline, m.Revision, true)
	}
	return err
}

// newerThan reports whether a snapshot of the time or before is of a later moment than the end of the journal. Where
// the revisions of both can be compared, the times of two clocks are not.
func (l *lookback) newerThan(ctx context.Context, m *plan.Moment) bool {
	for _, s := range l.all { // newest first
		if s.time.After(m.Time) {
			continue
		}
		if m.Upper > 0 || !s.time.After(m.Arrived) || !s.time.After(m.Complete) {
			return false
		}
		h := s.described(ctx)
		return h.newest == 0 || h.newest > m.Revision || !m.Timeline.HistoryOf(h.cluster, h.created)
	}
	return false
}
