package keep

import (
	"context"
	"fmt"
	"slices"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Place is one backend of a cluster: its snapshots and its journal.
type Place struct {
	Repository *repository.Repository
	Segments   *segments.Segments
}

// Prune removes the segments that no snapshot needs: those whose revisions are all before the oldest snapshot of their
// timeline on any backend. So snapshots and their journal go as one: when retention removes a snapshot, the changes
// that only it could take are of no use. A timeline without any snapshot goes when a later one has some, unless it is
// the live one, to which the leader adds: a replica that has led before may have begun a later one meanwhile.
//
// Snapshots are those that the backends show, and not those of the catalog. When a backend cannot be listed, or the
// manifest of a snapshot cannot be read, nothing is removed.
func Prune(ctx context.Context, places []Place, live segment.Timeline) (removed int, err error) {
	all, err := timelines(ctx, places)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	oldest, err := oldestBases(ctx, places, all)
	if err != nil {
		return 0, err
	}
	based := slices.IndexFunc(all, func(t segment.Timeline) bool { return oldest[t] > 0 })
	for i, t := range all {
		before := oldest[t]
		if before == 0 && i < based && t != live {
			before = segment.MaxRevision + 1
		}
		for _, p := range places {
			n, err := pruneBefore(ctx, p.Segments, t, before)
			removed += n
			if err != nil {
				return removed, fmt.Errorf("remove old segments of the journal %s: %w", t, err)
			}
		}
	}
	return removed, nil
}

// timelines returns those of all backends, in ascending order of their start.
func timelines(ctx context.Context, places []Place) ([]segment.Timeline, error) {
	var all []segment.Timeline
	for _, p := range places {
		some, err := p.Segments.Timelines(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b segment.Timeline) int { return a.Start().Compare(b.Start()) })
	return slices.Compact(all), nil
}

// oldestBases returns the revision of the oldest snapshot of each timeline; 0 when there is none.
func oldestBases(ctx context.Context, places []Place, all []segment.Timeline) (map[segment.Timeline]int64, error) {
	oldest := map[segment.Timeline]int64{}
	for _, p := range places {
		entries, err := p.Repository.Entries(ctx)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			rec, err := p.Repository.Record(ctx, e)
			if snapshot.ReasonOf(err) == snapshot.ReasonSnapshotUnreadable {
				continue // another copy, or none: it is no base as it is
			}
			if err != nil {
				return nil, err
			}
			t := timelineOf(rec, all)
			if revision := max(rec.Revision, rec.OldestRevision); t != "" && (oldest[t] == 0 || revision < oldest[t]) {
				oldest[t] = revision
			}
		}
	}
	return oldest, nil
}

// timelineOf returns the timeline within whose time a snapshot was taken; empty when there is none.
func timelineOf(rec *snapshot.Record, all []segment.Timeline) segment.Timeline {
	var found segment.Timeline
	for _, t := range all {
		if !t.Start().After(rec.CreateTime) {
			found = t
		}
	}
	if !found.Of(rec.EtcdClusterID) {
		return ""
	}
	return found
}

// pruneBefore removes the segments of a timeline that end before a revision. That of the revision itself stays: a
// restore compares the snapshot with it.
func pruneBefore(ctx context.Context, s *segments.Segments, t segment.Timeline, revision int64) (removed int, err error) {
	var gone []segments.Ref
	for _, l := range segment.Levels() {
		for item, err := range s.List(ctx, t, l) {
			if err != nil {
				return 0, err
			}
			if item.Last < revision {
				gone = append(gone, item.Ref)
			}
		}
	}
	for _, r := range gone {
		if err := s.Remove(ctx, r); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}
