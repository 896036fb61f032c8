package journal

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
)

// Pauses between two prunings. A change of leader begins with the first one.
const (
	firstPrune = 10 * time.Minute
	pruneEvery = time.Hour
)

// Snapshot is a snapshot from which a journal can be replayed.
type Snapshot struct {
	Revision int64
	Created  time.Time
}

// A Shed is a [Shelf] from which segments can be removed.
type Shed interface {
	Shelf
	Remove(ctx context.Context, r segments.Ref) error
}

var _ Shed = (*segments.Segments)(nil)

// Prune removes from one backend the segments that no restore to a time since oldest needs, the oldest first, and returns how
// many. A timeline that has ended before goes. In the others, what leads up to the newest snapshot of that time or before
// goes: each restore within the window can begin with it. Without such a snapshot, all of a timeline stays.
func Prune(ctx context.Context, s Shed, bases []Snapshot, oldest time.Time) (removed int, err error) {
	timelines, err := s.Timelines(ctx)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(timelines, func(a, b segment.Timeline) int { return a.Start().Compare(b.Start()) })
	for i, t := range timelines {
		var end time.Time // zero for the last one
		if i+1 < len(timelines) {
			end = timelines[i+1].Start()
		}
		upTo := needed(bases, t, end, oldest)
		refs, err := allOf(ctx, s, t)
		if err != nil {
			return removed, err
		}
		for _, r := range refs {
			if r.Last > upTo {
				break // never one from the middle
			}
			if err := s.Remove(ctx, r); err != nil {
				return removed, err
			}
			removed++
		}
	}
	return removed, nil
}

// needed returns the revision of a timeline up to which no segment is needed.
func needed(bases []Snapshot, t segment.Timeline, end, oldest time.Time) int64 {
	if !end.IsZero() && !end.After(oldest) {
		return segment.MaxRevision
	}
	upTo := int64(0)
	for _, b := range bases {
		within := !b.Created.Before(t.Start()) && (end.IsZero() || b.Created.Before(end))
		if within && !b.Created.After(oldest) {
			upTo = max(upTo, b.Revision)
		}
	}
	return upTo
}

// allOf returns the segments of a timeline, of all levels, in the order of their revisions.
func allOf(ctx context.Context, s Shelf, t segment.Timeline) ([]segments.Ref, error) {
	var refs []segments.Ref
	for _, l := range segment.Levels() {
		for item, err := range s.List(ctx, t, l) {
			if err != nil {
				return nil, err
			}
			refs = append(refs, item.Ref)
		}
	}
	slices.SortFunc(refs, func(a, b segments.Ref) int {
		return cmp.Or(cmp.Compare(a.Last, b.Last), cmp.Compare(a.First, b.First))
	})
	return refs, nil
}

// keepPruned prunes the backends now and then, until ctx ends.
func (j *Journal) keepPruned(ctx context.Context) {
	if j.cfg.Window == 0 || j.cfg.Snapshots == nil {
		return
	}
	for pause := firstPrune; backoff.Wait(ctx, backoff.Spread(pause, 0.1)) == nil; pause = pruneEvery {
		if err := j.prune(ctx); err != nil && ctx.Err() == nil {
			j.cfg.Logger.ErrorContext(ctx, "journal is not pruned", "next_in", pruneEvery, "error", err)
		}
	}
}

func (j *Journal) prune(ctx context.Context) error {
	bases, err := j.cfg.Snapshots(ctx)
	if err != nil {
		return err
	}
	oldest := time.Now().Add(-j.cfg.Window)
	for _, u := range j.stores {
		n, err := Prune(ctx, u.store, bases, oldest)
		if n > 0 {
			j.cfg.Logger.InfoContext(ctx, "journal pruned", "backend", u.store.Name(), "segments", n, "before", oldest)
		}
		if err != nil {
			return fmt.Errorf("prune the journal on backend %s: %w", u.store.Name(), err)
		}
	}
	return nil
}
