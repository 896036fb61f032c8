package daemon

import (
	"context"
	"fmt"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/server/status"
)

// Window implements [server.Journal].
func (f facts) Window(ctx context.Context) (status.Window, error) {
	w := status.Window{Journal: f.followed()}
	if f.following == nil {
		return w, nil
	}
	// Without a journal there is nothing to estimate: snapshots alone are exact.
	w.Estimates = status.Estimates()
	found := f.following.keeper.Window(ctx)
	w.Partial = found.Partial
	// Directories of other nodes are not seen from here, so that no more can be said of them.
	where := "no backend of this replica"
	if w.Partial {
		where = "no backend that answers"
	}
	for _, err := range found.Unread {
		w.Unread = append(w.Unread, err.Error())
	}
	for _, t := range found.Timelines {
		timeline := status.Timeline{
			Name: string(t.Name), EtcdCluster: fmt.Sprintf("%016x", t.Name.EtcdCluster()), Start: t.Name.Start(),
			Reason: t.Reason,
		}
		for _, r := range t.Ranges {
			timeline.Ranges = append(timeline.Ranges, status.Range{
				First: r.First, Last: r.Last, FirstTime: r.FirstTime, LastTime: r.LastTime, Complete: r.Complete,
			})
		}
		w.Timelines = append(w.Timelines, timeline)
	}
	for _, b := range found.Breaks(where) {
		w.AddGap(b.JournalBreak)
	}
	notes, err := f.JournalNotes(ctx)
	if err != nil {
		w.Unread = append(w.Unread, err.Error())
	}
	w.Journal.Notes = notes
	return w, ctx.Err()
}

// JournalRemovals implements [server.Journal].
func (f facts) JournalRemovals(ctx context.Context) ([]status.JournalRemoval, error) {
	if f.following == nil {
		return nil, nil
	}
	all, err := f.following.keeper.Plan(ctx)
	var removals []status.JournalRemoval
	for _, r := range all {
		removals = append(removals, status.JournalRemoval{
			Backend: r.Backend, Timeline: string(r.Timeline), First: r.First, Last: r.Last,
			Segments: int64(len(r.Segments)), Bytes: r.Bytes, Why: r.Why,
		})
	}
	return removals, err
}

// ReconcileJournal implements [server.Journal].
func (f facts) ReconcileJournal(ctx context.Context, req cluster.ReconcileRequest) (all []status.JournalCopies) {
	if f.following == nil {
		return nil
	}
	task := upkeep.Task{Into: req.Backends, Repair: req.Repair, ValidateOnly: req.ValidateOnly}
	for _, done := range f.following.keeper.Reconcile(ctx, task) {
		all = append(all, status.JournalCopies{
			Backend: done.Backend, Segments: int64(done.Segments), Bytes: done.Bytes, Lacking: done.Lacking,
			Damaged: f.following.keeper.State(done.Backend).Damaged, Err: done.Err,
		})
	}
	return all
}
