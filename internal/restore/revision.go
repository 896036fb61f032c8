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
// that time. The others are read. When manifests show that snapshots of two histories hold it, or may, it is refused.
func (l *lookback) byRevision(ctx context.Context) error {
	l.leaveOut(l.unread...)
	all := l.survey(ctx)
	sure, unsure := holders(all, l.Choice.Revision)
	if err := oneHistory(all, sure, "it is"); err != nil {
		return err
	}
	if err := oneHistory(all, slices.Concat(sure, unsure), "it may be"); err != nil {
		return err
	}
	if err := l.oneTimeline(ctx, sure); err != nil {
		return err
	}
	slices.SortStableFunc(sure, func(a, b *held) int { return cmp.Compare(a.newest, b.newest) })
	for _, h := range sure {
		if done, _, err := l.attempt(ctx, h); done || err != nil {
			l.tellUndescribed(all, err)
			return err
		}
	}
	err := l.search(ctx, unsure)
	l.tellUndescribed(all, err)
	return err
}

// tellUndescribed notes, when a snapshot was taken, that there are some of which no manifest says what they hold: that
// they are of its history is not known.
func (l *lookback) tellUndescribed(all []*held, err error) {
	if err != nil {
		return
	}
	var unknown []string
	for _, h := range all {
		if h.newest == 0 && h.name != l.res.Snapshot.Name {
			unknown = append(unknown, h.name)
		}
	}
	if len(unknown) == 0 {
		return
	}
	l.leaveOut(fmt.Errorf("snapshots whose revisions no manifest names (%d, the newest is %s): if etcd was restored "+
		"since, one may hold another revision %d; give the NAME of the right one then",
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
func oneHistory(all, some []*held, how string) error {
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
				"%s in more than one history of the cluster, because etcd was restored: in %s of %s and %s of %s", how,
				first.name, first.time.UTC().Format(time.RFC3339), h.name, h.time.UTC().Format(time.RFC3339)).
				Advise("nothing was restored; give the NAME of the right one, too")
		}
	}
	return nil
}

// search reads snapshots, in the order of their time, until one holds the revision. Both ends of the revisions that a
// snapshot holds rise with its time.
func (l *lookback) search(ctx context.Context, all []*held) error {
	revision := l.Choice.Revision
	for len(all) > 0 {
		// The first whose manifest names a newest revision that is high enough is the best guess.
		i := slices.IndexFunc(all, func(h *held) bool { return h.newest > 0 })
		if i < 0 {
			i = len(all) / 2
		}
		done, not, err := l.attempt(ctx, all[i])
		switch {
		case done || err != nil:
			return err
		case not == nil:
			all = slices.Delete(all, i, i+1)
		case not.below > 0:
			return not
		case not.newest < revision:
			all = all[i+1:]
		default:
			all = all[:i]
		}
	}
	if unread := firstUnread(l.res.Skipped); unread != nil {
		return nothing(l.Choice, l.repos, l.res.Skipped)
	}
	return &notHeldError{revision: revision}
}

// attempt tries to take a snapshot. It returns why the snapshot does not hold the revision; when it cannot be read, it
// is skipped.
func (l *lookback) attempt(ctx context.Context, h *held) (done bool, not *notHeldError, err error) {
	failed, done, err := h.try(ctx, l.Choice, func(c candidate) error { return l.takeRevision(ctx, c) })
	l.leaveOut(failed...)
	if errors.As(err, &not) {
		return false, not, nil
	}
	return done, nil, err
}
