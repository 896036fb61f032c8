package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// byRevision takes a snapshot that holds the revision: every such snapshot of one history gives the same keys. Of those
// whose manifests say so, the one with the lowest newest revision is the first, because it has most of the leases of
// that time. The others are read, and those of other histories before: none of these may hold the revision, too.
func (l *lookback) byRevision(ctx context.Context) error {
	l.leaveOut(l.unread...)
	all := l.survey(ctx)
	sure, unsure := holders(all, l.Choice.Revision)
	if err := oneHistory(all, sure); err != nil {
		return err
	}
	if err := l.oneTimeline(ctx, sure); err != nil {
		return err
	}
	found, own, none, err := l.searchOthers(ctx, histories(all), sure, unsure)
	if err != nil {
		return err
	}
	slices.SortStableFunc(sure, func(a, b *held) int { return cmp.Compare(a.newest, b.newest) })
	holding := slices.Concat(sure, found)
	if err := oneHistory(all, holding); err != nil {
		return err
	}
	done := len(holding) == 1 && len(found) == 1 && l.read == l.res.URI // nothing was read after it
	for i := 0; i < len(holding) && !done; i++ {
		if done, _, err = l.attempt(ctx, holding[i]); err != nil {
			return err
		}
	}
	if !done && len(sure) > 0 {
		var h *held
		h, none, err = l.search(ctx, own)
		done = h != nil
	}
	if err != nil || !done {
		return cmp.Or(err, none, error(&notHeldError{revision: l.Choice.Revision}))
	}
	l.tellUnread(all)
	return nil
}

// searchOthers looks for the revision in each history of which no snapshot is sure to hold it. It returns the snapshots
// that do, those that may hold it in the history of the sure ones, and why the last history has none.
func (l *lookback) searchOthers(
	ctx context.Context, parts [][]*held, sure, unsure []*held,
) (found, own []*held, none, err error) {
	within := func(part, some []*held) []*held {
		return slices.DeleteFunc(slices.Clone(part), func(h *held) bool { return !slices.Contains(some, h) })
	}
	for _, part := range parts {
		maybe := within(part, unsure)
		if len(within(part, sure)) > 0 {
			own = maybe
			continue
		}
		var h *held
		if h, none, err = l.search(ctx, maybe); err != nil {
			return nil, nil, nil, err
		}
		if h != nil {
			found = append(found, h)
		}
	}
	return found, own, none, nil
}

// histories returns snapshots, which are in the order of their time, apart where their manifests show that a history
// has ended. Those that no manifest describes are with the ones before them.
func histories(all []*held) (parts [][]*held) {
	var last *held
	begin := 0
	for i, h := range all {
		if h.newest == 0 {
			continue
		}
		if last != nil && !h.follows(last) {
			parts = append(parts, all[begin:i])
			begin = i
		}
		last = h
	}
	return append(parts, all[begin:])
}

// tellUnread notes that there are snapshots of which neither a manifest nor their data says what they hold: that they
// are of the history that was found is not known.
func (l *lookback) tellUnread(all []*held) {
	var unknown []string
	for _, h := range all {
		if h.newest == 0 {
			unknown = append(unknown, h.name)
		}
	}
	if len(unknown) == 0 {
		return
	}
	l.leaveOut(fmt.Errorf("snapshots whose revisions no manifest names, and which were not read (%d, the newest is %s): "+
		"if etcd was restored since, one may hold another revision %d; give the NAME of the right one then",
		len(unknown), unknown[len(unknown)-1], l.Choice.Revision))
}

// holders returns the snapshots that hold a revision, and those that may hold it.
func holders(all []*held, revision int64) (sure, unsure []*held) {
	for _, h := range all {
		switch {
		case h.newest == 0, h.oldest == 0 && h.newest >= revision:
			unsure = append(unsure, h)
		case h.oldest <= revision && revision <= h.newest:
			sure = append(sure, h)
		}
	}
	return sure, unsure
}

// follows reports whether a snapshot may be of the same history as an older one, in which a revision is the same. A
// history ends when etcd is restored: the cluster's id changes, or the revisions begin again at a lower one.
func (h *held) follows(older *held) bool {
	return h.newest >= older.newest && (h.cluster == older.cluster || h.cluster == "" || older.cluster == "")
}

// oneHistory returns an error when snapshots, which are some of all, are of different histories. All are in the order
// of their time.
func oneHistory(all, some []*held) error {
	var last, first *held // last of all, first of some
	broken := false       // the history has ended after the first
	for _, h := range all {
		if h.newest == 0 {
			continue
		}
		broken = broken || first != nil && !h.follows(last)
		last = h
		switch {
		case !slices.Contains(some, h):
		case first == nil:
			first = h
		case broken:
			return snapshot.Invalid("--revision",
				"it is in more than one history of the cluster, because etcd was restored: in %s of %s and %s of %s",
				first.name, first.time.UTC().Format(time.RFC3339), h.name, h.time.UTC().Format(time.RFC3339)).
				Advise("nothing was restored; give the NAME of the right one, too")
		}
	}
	return nil
}

// search reads snapshots of one history, in the order of their time, until one holds the revision, which is taken then.
// Both ends of the revisions that a snapshot holds rise with its time. Without one, it returns why there is none.
func (l *lookback) search(ctx context.Context, all []*held) (found *held, none, err error) {
	revision := l.Choice.Revision
	for len(all) > 0 {
		// The first whose manifest names a newest revision that is high enough is the best guess.
		i := slices.IndexFunc(all, func(h *held) bool { return h.newest > 0 })
		if i < 0 {
			i = len(all) / 2
		}
		done, not, err := l.attempt(ctx, all[i])
		switch {
		case err != nil:
			return nil, nil, err
		case done:
			return all[i], nil, nil
		case not == nil:
			all = slices.Delete(all, i, i+1)
		case not.below > 0:
			return nil, not, nil
		case not.newest < revision:
			all = all[i+1:]
		default:
			all = all[:i]
		}
	}
	if unread := firstUnread(l.res.Skipped); unread != nil {
		return nil, nothing(l.Choice, l.repos, l.res.Skipped), nil
	}
	return nil, &notHeldError{revision: revision}, nil
}

// attempt tries to take a snapshot. It returns why the snapshot does not hold the revision; when it cannot be read, it
// is skipped. What was read of its revisions is noted.
func (l *lookback) attempt(ctx context.Context, h *held) (done bool, not *notHeldError, err error) {
	failed, done, err := h.try(ctx, l.Choice, func(c candidate) error { return l.takeRevision(ctx, c) })
	l.leaveOut(failed...)
	switch {
	case errors.As(err, &not):
		h.oldest, h.newest = not.oldest, not.newest
		return false, not, nil
	case done:
		h.oldest, h.newest = l.res.Past.Oldest, l.res.Past.Newest
	}
	return done, nil, err
}
