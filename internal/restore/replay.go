package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// factSegments is how many segments are read behind the last revision for the times to live of its leases: etcd was
// asked for them when the first key with the lease came. As many are read of the timelines that follow.
const factSegments = 3

// replay adds the journal to a database in a file.
type replay struct {
	*Replayed
	options Options
	file    string
	oldest  int64        // the revision of the last compaction in the snapshot
	cross   bool         // gaps of the timeline are crossed
	auth    segment.Auth // of the snapshot
	// compactTo is the revision up to which the result is compacted; 0 for the one that the journal shows.
	compactTo int64
	// compactedBehind is the first revision behind the last gap that was crossed; 0 without one.
	compactedBehind int64
	walk            plan.Walk
	behind          []*plan.Timeline // the timelines that follow
	leases          *plan.Leases
	past            *Past
}

func (r *replay) run(ctx context.Context) error {
	if err := r.replay(ctx); err != nil {
		return err
	}
	fault.Point("restore-replayed")
	// What the changes have made of the database is read as that of any copy, with the leases that keys name at its end.
	found, err := database.File(ctx, r.file, database.Options{Revision: r.Revision})
	if err != nil {
		return fmt.Errorf("restore: read the database after the changes of the journal: %w", err)
	}
	if found.Past == nil || found.Newest() != r.Revision {
		return fmt.Errorf("restore: the changes of the journal lead to revision %d, and not to %d",
			found.Newest(), r.Revision)
	}
	r.TotalKeys = found.Past.TotalKeys
	if err := r.readOn(ctx, found.Past.Leases); err != nil {
		return err
	}
	r.past = &Past{
		Oldest: found.OldestRevision, Newest: r.Revision, Past: *found.Past,
		replayed: r.leasesOf(found.Past),
	}
	return nil
}

// readOn reads what is journaled behind the revision for the times to live of its leases, when one is not known yet. A
// replica that was stopped before it asked has not journaled it. The one that began the next timeline has asked for all
// leases that there were.
func (r *replay) readOn(ctx context.Context, named []uint64) error {
	if known, err := r.readFacts(ctx, &r.walk, factSegments, named); known || err != nil {
		return err
	}
	left := factSegments
	for _, t := range r.behind {
		w := plan.NewFacts(t, r.walk.Dir, func(e segment.Entry) {
			if r.leases.TakeLater(e) && !slices.Contains(r.Leases.From, t.Name) {
				r.Leases.From = append(r.Leases.From, t.Name)
			}
		})
		known, err := r.readFacts(ctx, w, left, named)
		r.walk.Skipped = append(r.walk.Skipped, w.Skipped...)
		if left -= len(w.Used); known || err != nil {
			return err
		}
	}
	return nil
}

// readFacts reads segments of a walk, until the time to live of each lease of the revision is known, or there are no
// more.
func (r *replay) readFacts(ctx context.Context, w *plan.Walk, most int, named []uint64) (known bool, err error) {
	unknown := func(id int64) bool { _, ok := r.leases.TTL(id); return !ok }
	for n := 0; ; n++ {
		if !slices.ContainsFunc(named, func(id uint64) bool { return unknown(int64(id)) }) &&
			!slices.ContainsFunc(r.leases.Alive(), unknown) {
			return true, nil
		}
		used := len(w.Used)
		if n >= most {
			return false, nil
		}
		if err := w.ReadOn(ctx); err != nil || len(w.Used) == used {
			return false, err
		}
	}
}

// replay adds the records.
func (r *replay) replay(ctx context.Context) (err error) {
	base, err := datadir.Leases(r.file)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if r.auth.AuthRevision, r.auth.Enabled, err = datadir.Auth(r.file); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	db, err := datadir.OpenReplay(r.file, r.oldest, mapSize(r.options.Member.MemoryMapSize))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ttls := map[int64]int64{}
	for _, l := range base {
		ttls[int64(l.ID)] = l.TTL
	}
	r.leases = plan.NewLeases(r.Revision, ttls, r.Base)
	r.walk.Target = &target{db}
	if r.cross {
		r.walk.Oldest = r.oldest
		r.walk.Cross = func(g plan.Gap) error { db.Cross(g.First, g.Last); return nil }
	}
	if err := r.walk.Run(ctx); err != nil {
		return err
	}
	r.Segments, r.Bytes = slices.Clone(r.walk.Used), r.walk.Bytes
	if err := r.mend(db); err != nil {
		return err
	}
	if r.walk.AtEnd() { // the last facts of the revision may be in the next segment
		if err := r.walk.ReadOn(ctx); err != nil {
			return err
		}
	}
	r.Compacted = max(r.Compacted, r.compactedBehind)
	if r.compactTo > 0 {
		r.Compacted = r.compactTo
	}
	if r.Compacted <= r.oldest {
		r.Compacted = 0
		return nil
	}
	return db.Compact(r.Compacted)
}

// mend makes the database consistent again after gaps were crossed. All before the last one then counts as compacted:
// nobody reads a state of which revisions are lost as if it were one of the cluster, or watches across it.
func (r *replay) mend(db *datadir.Replay) error {
	if len(r.walk.Crossed) == 0 {
		return nil
	}
	found, err := db.Mend()
	if err != nil {
		return differs(err)
	}
	r.Crossed = &Crossed{Gaps: r.walk.Crossed, Written: found.Written, Changed: found.Changed}
	r.compactedBehind = r.walk.Crossed[len(r.walk.Crossed)-1].Last + 1
	return nil
}

// fact takes an entry of the journal that is no revision.
func (r *replay) fact(e segment.Entry) {
	switch e := e.(type) {
	case segment.Compaction:
		// Whether one had happened at a revision within its bracket is not known: the history is longer then, and not wrong.
		if e.Before <= r.Revision {
			r.Compacted = max(r.Compacted, e.Revision)
		}
	case segment.Auth:
		if e.AuthRevision >= r.auth.AuthRevision && r.Base <= e.Revision && e.Revision <= r.Revision {
			r.AuthBehind = e.AuthRevision > r.auth.AuthRevision || e.Enabled && !r.auth.Enabled // which raises no counter
		}
	default:
		r.leases.Take(e)
	}
}

// leasesOf returns the leases of the revision: those that keys name, and those without keys that the journal shows.
func (r *replay) leasesOf(past *database.Past) *datadir.Past {
	made := &datadir.Past{Revision: past.Revision, Leases: slices.Clone(past.Leases)}
	keys := map[uint64]int64{}
	for _, l := range past.Ended {
		keys[l.ID] = l.Keys
	}
	for _, id := range past.Leases {
		r.give(made, id, keys[id], &r.Leases.Exact)
	}
	for _, id := range r.leases.Alive() {
		if _, named := slices.BinarySearch(past.Leases, uint64(id)); !named {
			made.Leases = append(made.Leases, uint64(id))
			r.give(made, uint64(id), 0, &r.Leases.Keyless)
		}
	}
	slices.Sort(made.Leases)
	return made
}

// give gives a lease its time to live, or the estimate, and counts it.
func (r *replay) give(made *datadir.Past, id uint64, keys int64, known *int64) {
	seconds, ok := r.leases.TTL(int64(id))
	if ok {
		*known++
	} else {
		r.Leases.Estimated++
		r.Leases.Keys += keys
		seconds = int64(r.options.EndedLeaseTTL / time.Second)
	}
	if seconds > 0 {
		made.Ended = append(made.Ended, datadir.Lease{ID: id, TTL: min(seconds, maxLeaseTTL)})
	}
}

// target is the database that the changes are added to.
type target struct{ db *datadir.Replay }

// Holds implements [plan.Target].
func (t *target) Holds(r segment.Revision) error { return differs(t.db.Holds(r.Main, records(r))) }

// differs says in the words of the journal that a database has another history.
func differs(err error) error {
	if errors.Is(err, datadir.ErrDiffers) {
		return fmt.Errorf("%w: %w", plan.ErrDiffers, err)
	}
	return err
}

// compared is a database with which revisions are compared, and to which none is added.
type compared func(main int64, records []datadir.Record) error

// Holds implements [plan.Target].
func (c compared) Holds(r segment.Revision) error { return differs(c(r.Main, records(r))) }

// Add implements [plan.Target].
func (compared) Add(segment.Revision) error { return errors.ErrUnsupported }

// Add implements [plan.Target].
func (t *target) Add(r segment.Revision) error { return t.db.Add(r.Main, records(r)) }

func records(r segment.Revision) []datadir.Record {
	all := make([]datadir.Record, len(r.Records))
	for i, rec := range r.Records {
		all[i] = datadir.Record{Sub: rec.Sub, Tombstone: rec.Tombstone, Value: rec.Value}
	}
	return all
}
