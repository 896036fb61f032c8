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
// asked for them when the first key with the lease came.
const factSegments = 3

// replay adds the journal to a database in a file.
type replay struct {
	*Replayed
	options Options
	file    string
	oldest  int64  // the revision of the last compaction in the snapshot
	auth    uint64 // the revision of users and roles in the snapshot
	// compactTo is the revision up to which the result is compacted; 0 for the one that the journal shows.
	compactTo int64
	walk      plan.Walk
	leases    *plan.Leases
	past      *Past
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
		return fmt.Errorf("restore: the changes of the journal lead to revision %d, and not to %d", found.Newest(), r.Revision)
	}
	r.TotalKeys = found.Past.TotalKeys
	if err := r.readOn(ctx, found.Past.Leases); err != nil {
		return err
	}
	r.past = &Past{
		Oldest: found.OldestRevision, Newest: r.Revision, Past: *found.Past,
		replayed: r.settle(found.Past),
	}
	return nil
}

// readOn reads what is journaled behind the revision for the times to live of its leases, when one is not known yet.
func (r *replay) readOn(ctx context.Context, named []uint64) error {
	known := func(id uint64) bool { _, ok := r.leases.TTL(int64(id)); return ok }
	for range factSegments {
		if !slices.ContainsFunc(named, func(id uint64) bool { return !known(id) }) {
			return nil
		}
		if err := r.walk.ReadOn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// replay adds the records.
func (r *replay) replay(ctx context.Context) (err error) {
	base, err := datadir.Leases(r.file)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if r.auth, err = datadir.AuthRevision(r.file); err != nil {
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
	if err := r.walk.Run(ctx); err != nil {
		return err
	}
	r.Segments, r.Bytes = slices.Clone(r.walk.Used), r.walk.Bytes
	if r.walk.AtEnd() { // the last facts of the revision may be in the next segment
		if err := r.walk.ReadOn(ctx); err != nil {
			return err
		}
	}
	if r.compactTo > 0 {
		r.Compacted = r.compactTo
	}
	if r.Compacted <= r.oldest {
		r.Compacted = 0
		return nil
	}
	return db.Compact(r.Compacted)
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
		r.AuthBehind = r.AuthBehind || e.AuthRevision > r.auth && e.Revision <= r.Revision
	default:
		r.leases.Take(e)
	}
}

// settle returns the leases of the revision: those that keys name, and those without keys that the journal shows.
func (r *replay) settle(past *database.Past) *datadir.Past {
	made := &datadir.Past{Revision: past.Revision, Leases: slices.Clone(past.Leases)}
	keys := map[uint64]int64{}
	for _, l := range past.Ended {
		keys[l.ID] = l.Keys
	}
	for _, id := range past.Leases {
		seconds, ok := r.leases.TTL(int64(id))
		if ok {
			r.Leases.Exact++
		} else {
			r.Leases.Estimated++
			r.Leases.Keys += keys[id]
			seconds = int64(r.options.EndedLeaseTTL / time.Second)
		}
		if seconds > 0 {
			made.Ended = append(made.Ended, datadir.Lease{ID: id, TTL: min(seconds, maxLeaseTTL)})
		}
	}
	for _, id := range r.leases.Alive() {
		_, named := slices.BinarySearch(past.Leases, uint64(id))
		seconds, ok := r.leases.TTL(id)
		if named || !ok {
			continue
		}
		r.Leases.Keyless++
		made.Leases = append(made.Leases, uint64(id))
		made.Ended = append(made.Ended, datadir.Lease{ID: uint64(id), TTL: min(seconds, maxLeaseTTL)})
	}
	slices.Sort(made.Leases)
	return made
}

// target is the database that the changes are added to.
type target struct{ db *datadir.Replay }

// Holds implements [plan.Target].
func (t *target) Holds(r segment.Revision) error {
	err := t.db.Holds(r.Main, records(r))
	if errors.Is(err, datadir.ErrDiffers) {
		return fmt.Errorf("%w: %w", plan.ErrDiffers, err)
	}
	return err
}

// Add implements [plan.Target].
func (t *target) Add(r segment.Revision) error { return t.db.Add(r.Main, records(r)) }

func records(r segment.Revision) []datadir.Record {
	all := make([]datadir.Record, len(r.Records))
	for i, rec := range r.Records {
		all[i] = datadir.Record{Sub: rec.Sub, Tombstone: rec.Tombstone, Value: rec.Value}
	}
	return all
}
