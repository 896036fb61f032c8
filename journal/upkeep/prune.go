package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

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

// Pruner removes the segments that nothing needs any more. Those whose revisions are all before the oldest snapshot of
// their timeline on any backend lead on from no snapshot. So snapshots and their journal go as one: when retention
// removes a snapshot, the changes that only it could take are of no use. A timeline without any snapshot goes when a
// later one has some, unless it is the live one, to which the leader adds: a replica that has led before may have begun
// a later one meanwhile.
//
// With a window, the newest snapshot from before the window takes the place of the oldest one: it leads to the
// beginning of the window. Each backend has its own: one may lack the snapshots of another, and a restore from it alone
// leads on from what it has. The snapshots themselves are left to retention.
//
// Snapshots are those that the backends show, and not those of the catalog. When a backend cannot be listed, is not the
// one that it was (a directory that is not mounted looks empty), or the manifest of a snapshot cannot be read, nothing
// is removed.
type Pruner struct {
	Places []Place
	Window time.Duration // how far back the journal reaches; 0 for as far as there are snapshots

	mu    sync.Mutex
	known map[string]map[string]base // by backend and name; a manifest is read once
}

// base is a snapshot from which a timeline can be replayed.
type base struct {
	size     int64 // of its object, as listed
	revision int64
	created  time.Time
	cluster  string
}

// Removal is the segments of a timeline that go from one backend.
type Removal struct {
	Backend     string
	Timeline    segment.Timeline
	First, Last int64
	Bytes       int64 // as they are stored
	Why         string

	Segments []segments.Ref
	from     *segments.Segments
}

// Prune removes the segments that go. live is the timeline to which the leader adds.
func (p *Pruner) Prune(ctx context.Context, live segment.Timeline, now time.Time) (removed int, err error) {
	all, err := p.Plan(ctx, live, now)
	if err != nil {
		return 0, err
	}
	for _, r := range all {
		for _, s := range r.Segments {
			if err := r.from.Remove(ctx, s); err != nil {
				return removed, fmt.Errorf("remove old segments of the journal %s: %w", r.Timeline, err)
			}
			removed++
		}
	}
	return removed, nil
}

// Plan returns the segments that would go, and removes nothing. Without a live timeline, the newest one is taken for
// it.
func (p *Pruner) Plan(ctx context.Context, live segment.Timeline, now time.Time) ([]Removal, error) {
	seen := p.look(ctx)
	// One backend may have the oldest snapshot of all: without its listing, nothing is known to be of no use.
	if err := errors.Join(slices.Concat(seen.errs, slices.Collect(maps.Values(seen.unsure)))...); err != nil {
		return nil, err
	}
	var removals []Removal
	for i, t := range seen.timelines {
		for k, at := range p.Places {
			before, why := p.before(seen, i, k, live, now)
			if before == 0 {
				continue
			}
			r, err := ending(ctx, at.Segments, t, before)
			if err != nil {
				return nil, fmt.Errorf("list old segments of the journal %s: %w", t, err)
			}
			if r.Why = why; len(r.Segments) > 0 {
				removals = append(removals, r)
			}
		}
	}
	return removals, nil
}

// seen is the timelines and snapshots of all places.
type seen struct {
	timelines []segment.Timeline // of all places, in ascending order of their start
	bases     []bases            // of each place
	errs      []error            // by place: why it does not count; nil when it does

	// Timelines in whose time a snapshot was taken whose manifest is not trusted, or was not given: it may be the oldest
	// one. The empty one is of snapshots before all of them.
	unsure map[segment.Timeline]error
}

// look lists the timelines and snapshots. A place that cannot be listed, or is not the store that it was, counts as
// empty.
func (p *Pruner) look(ctx context.Context) *seen {
	s := &seen{bases: make([]bases, len(p.Places)), errs: make([]error, len(p.Places)),
		unsure: map[segment.Timeline]error{}}
	for i, at := range p.Places {
		some, err := at.timelines(ctx)
		s.errs[i] = err
		s.timelines = append(s.timelines, some...)
	}
	slices.SortFunc(s.timelines, segment.Timeline.Compare)
	s.timelines = slices.Compact(s.timelines)
	if len(s.timelines) == 0 {
		return s
	}
	for i, at := range p.Places {
		if s.errs[i] == nil {
			s.bases[i], s.errs[i] = p.basesOf(ctx, at, s)
		}
	}
	return s
}

// timelines returns those of a place. A directory that is not mounted looks empty.
func (at *Place) timelines(ctx context.Context) ([]segment.Timeline, error) {
	if err := at.Repository.OpenVerified(ctx, false); err != nil {
		return nil, err
	}
	return at.Segments.Timelines(ctx)
}

// bases are the snapshots of each timeline.
type bases map[segment.Timeline][]base

// before returns the revision before which a timeline is not needed on a backend, and why; 0 when all of it is.
func (p *Pruner) before(
	seen *seen, i, place int, live segment.Timeline, now time.Time,
) (revision int64, why string) {
	all, found := seen.timelines, seen.bases
	t, live := all[i], cmp.Or(live, all[len(all)-1])
	begin := now.Add(-p.Window)
	based := func(t segment.Timeline) bool {
		return slices.ContainsFunc(found, func(b bases) bool { return len(b[t]) > 0 })
	}
	followed := slices.ContainsFunc(all[i+1:], func(t segment.Timeline) bool { return len(found[place][t]) > 0 })
	switch {
	case p.Window > 0 && t != live && i+1 < len(all) && !all[i+1].Start().After(begin) && followed:
		return segment.MaxRevision + 1, fmt.Sprintf("the timeline ended before the window of %s", p.Window)
	case !based(t) && t != live && slices.ContainsFunc(all[i+1:], based):
		return segment.MaxRevision + 1, "the timeline has no snapshot any more"
	case !based(t):
		return 0, ""
	}
	oldest := oldestOf(found, t)
	why = fmt.Sprintf("they are before the oldest snapshot, of revision %d", oldest.revision)
	if p.Window == 0 {
		return oldest.revision, why
	}
	// The newest that is still before the window: from there, each moment of the window can be reached.
	for _, b := range found[place][t] {
		if !b.created.After(begin) && b.revision > oldest.revision {
			oldest = b
			why = fmt.Sprintf("they are before the snapshot of revision %d, which leads to the beginning of the window of %s",
				b.revision, p.Window)
		}
	}
	return oldest.revision, why
}

// oldestOf returns the oldest snapshot of a timeline on any backend.
func oldestOf(found []bases, t segment.Timeline) base {
	var all []base
	for _, b := range found {
		all = append(all, b[t]...)
	}
	return slices.MinFunc(all, func(a, b base) int { return cmp.Compare(a.revision, b.revision) })
}

// basesOf returns the snapshots of a place, and notes of which timelines there may be others. Manifests that were read
// before are not read again: what they say of a snapshot does not change.
func (p *Pruner) basesOf(ctx context.Context, at Place, seen *seen) (bases, error) {
	entries, err := at.Repository.Entries(ctx)
	if err != nil {
		return nil, err
	}
	name := at.Repository.Name()
	p.mu.Lock()
	// The lock is not held while manifests are read, which can take minutes.
	was := p.known[name] // replaced as a whole, never changed
	p.mu.Unlock()
	found, known := bases{}, make(map[string]base, len(entries))
	row := 0 // manifests that were not given, one after the other
	for _, e := range entries {
		b, read := was[e.Name]
		// Another size under a known name is another object: its manifest is read.
		if !read || b.size != e.Size {
			rec, err := at.Repository.Record(ctx, e)
			switch {
			case snapshot.ReasonOf(err) == snapshot.ReasonSnapshotUnreadable:
				continue // another copy, or none: it is no base as it is
			// A few that are not given are bad objects. Several in a row are a backend that is away, which has no bases to
			// tell of.
			case err != nil && !snapshot.IsDamage(err):
				if row++; row == inRow || ctx.Err() != nil {
					return nil, err
				}
				fallthrough
			case err != nil:
				seen.unsure[timelineAt(e.Time, seen.timelines)] = err
				continue
			}
			row, b = 0, base{e.Size, max(rec.Revision, rec.OldestRevision), rec.CreateTime, rec.EtcdClusterID}
		}
		known[e.Name] = b
		if t := timelineOf(b, seen.timelines); t != "" {
			found[t] = append(found[t], b)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]map[string]base{}
	}
	p.known[name] = known
	return found, nil
}

// timelineOf returns the timeline within whose time a snapshot was taken; empty when there is none.
func timelineOf(b base, all []segment.Timeline) segment.Timeline {
	t := timelineAt(b.created, all)
	// Another etcd was saved under this name then: its revisions mean something else.
	if !t.Of(b.cluster) {
		return ""
	}
	return t
}

// timelineAt returns the timeline of a time; empty before the first one.
func timelineAt(at time.Time, all []segment.Timeline) (found segment.Timeline) {
	for _, t := range all {
		if !t.Start().After(at) {
			found = t
		}
	}
	return found
}

// ending returns the segments of a timeline that end before a revision. That of the revision itself stays: a restore
// compares the snapshot with it.
func ending(ctx context.Context, s *segments.Segments, t segment.Timeline, revision int64) (Removal, error) {
	r := Removal{Backend: s.Name(), Timeline: t, from: s}
	for _, l := range segment.Levels() {
		for item, err := range s.List(ctx, t, l) {
			if err != nil {
				return r, err
			}
			// By whole segments: one that reaches over the bound is needed for the revisions behind it.
			if item.Last >= revision {
				continue
			}
			if r.First == 0 || item.First < r.First {
				r.First = item.First
			}
			r.Segments, r.Last, r.Bytes = append(r.Segments, item.Ref), max(r.Last, item.Last), r.Bytes+item.Size
		}
	}
	// The oldest goes first. When the removal is interrupted, no hole is left.
	slices.SortStableFunc(r.Segments, func(a, b segments.Ref) int { return cmp.Compare(a.Last, b.Last) })
	return r, nil
}
