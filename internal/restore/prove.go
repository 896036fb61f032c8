package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Proof is the result of [Prove]: the journal leads from one snapshot to another.
type Proof struct {
	Snapshot *snapshot.Snapshot // the later one
	Base     *snapshot.Snapshot
	Replayed *Replayed

	HashKV          uint32 // of both, at the later one's revision
	CompactRevision int64  // for which the hash holds
	TotalKeys       int64
	Took            time.Duration
}

// verdict is an error of a proof that is one of the journal: it does not lead to the snapshot, or cannot be read.
type verdict struct{ error }

// Unwrap returns the error.
func (v verdict) Unwrap() error { return v.error }

// IsVerdict reports whether an error of [Prove] or [DrillAt] says that the journal is not good. Others say nothing of
// it.
func IsVerdict(err error) bool {
	_, is := errors.AsType[verdict](err)
	return is
}

// ofJournal marks an error as a verdict on the journal when revisions are lost in the journal itself: all segments that
// should have them were read, and are damaged. A backend that did not answer may have others. A damaged snapshot says
// nothing of the journal.
func (l *lookback) ofJournal(err error) error {
	lost, is := errors.AsType[*plan.Lost](err)
	undamaged := func(cause error) bool { return !snapshot.IsDamage(cause) }
	if !is || len(lost.Causes) == 0 || slices.ContainsFunc(lost.Causes, undamaged) || len(l.journal.Unread) > 0 {
		return err
	}
	return verdict{err}
}

// Prove adds the journal to the snapshot before the chosen one, up to the revision of the chosen one, and compares the
// two: HashKV, the number of keys, and the leases that keys name. Each becomes a throw-away etcd, one after the other.
// An error with ReasonSnapshotUnreadable says that they differ; one with ReasonRevisionNotFound, that no journal leads
// there.
func Prove(ctx context.Context, o VerifyOptions) (p Proof, err error) {
	begin := time.Now()
	work, err := os.MkdirTemp(o.Dir, "prove-")
	if err != nil {
		return p, fmt.Errorf("prove: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	opts := Options{
		Repositories: o.repositories(), Choice: o.Choice, Identities: o.Identities, DataDir: filepath.Join(work, "data"),
	}
	all, err := list(ctx, opts.Repositories)
	if err != nil {
		return p, err
	}
	full := &lookback{Options: opts, listing: all, file: filepath.Join(work, "later.db")}
	found, c, err := full.whole(ctx)
	if err != nil {
		return p, err
	}
	opts.Choice = Choice{}
	earlier := &lookback{
		Options: opts, listing: all, file: filepath.Join(work, "earlier.db"), below: found.Newest(),
		compactTo: found.OldestRevision,
	}
	if err := earlier.leadTo(ctx, c, found.Newest()); err != nil {
		return p, earlier.ofJournal(err)
	}
	p = Proof{Snapshot: &c.Snapshot, Base: &earlier.res.Snapshot.Snapshot, Replayed: earlier.res.Replayed,
		TotalKeys: found.TotalKeys}
	if err := sameLeases(full.file, earlier.res.Past); err != nil {
		return p, p.differs(err)
	}
	if err := p.compare(ctx, o.Driller, full.file, earlier.file); err != nil {
		return p, err
	}
	p.Took = time.Since(begin)
	return p, nil
}

// whole reads the chosen snapshot.
func (l *lookback) whole(ctx context.Context) (found database.Result, c candidate, err error) {
	_, err = l.choose(ctx, l.Choice, func(chosen candidate) error {
		c = chosen
		found, err = l.look(ctx, chosen, 0)
		return err
	})
	return found, c, err
}

// leadTo takes a snapshot before a later one to the revision of that.
func (l *lookback) leadTo(ctx context.Context, later candidate, revision int64) error {
	j := l.loadJournal(ctx, l.Options)
	for _, t := range j.Holding(revision) {
		if t.HistoryOf(later.EtcdClusterID, later.CreateTime) {
			return l.forward(ctx, t, revision, false)
		}
	}
	if len(j.Unread) > 0 {
		return j.Unread[0]
	}
	return snapshot.ReasonRevisionNotFound.New("prove the journal before %s: no journal has its revision %d",
		later.Name, revision).
		Advise("the journal may not have been enabled then, or its segments are gone; another snapshot may do")
}

// sameLeases returns how the leases of a revision differ from those in the database of a later snapshot of that
// revision. Leases without keys are left out: they come and go without a revision.
func sameLeases(file string, past *Past) error {
	there, err := datadir.Leases(file)
	if err != nil {
		return err
	}
	ttls := map[uint64]int64{}
	for _, l := range there {
		ttls[l.ID] = l.TTL
	}
	given := map[uint64]int64{}
	for _, l := range past.replayed.Ended {
		given[l.ID] = l.TTL
	}
	for _, id := range past.Leases {
		want, ok := ttls[id]
		got, known := given[id]
		switch {
		case !ok:
			return fmt.Errorf("keys name the lease %016x, and the later snapshot does not have it", id)
		case known && got != want:
			return fmt.Errorf("the lease %016x has a time to live of %d s, and %d s in the later snapshot", id, got, want)
		}
	}
	return nil
}

// compare makes an etcd of each database, and compares their answers.
func (p *Proof) compare(ctx context.Context, d repository.Driller, later, earlier string) error {
	var all [2]repository.Drilled
	for i, file := range []string{later, earlier} {
		drilled, err := d.Drill(ctx, file, p.Replayed.Revision)
		if file == earlier && errors.Is(err, repository.ErrNotRestorable) {
			return p.differs(err) // the snapshot before was whole, and the later one is: the journal between them is not
		}
		if err != nil {
			return fmt.Errorf("prove the journal before %s: %w", p.Snapshot.Name, err)
		}
		drilled.Disarmed = nil
		all[i] = drilled
	}
	want, got := all[0], all[1]
	p.HashKV, p.CompactRevision = want.HashKV, want.CompactRevision
	if got.HashKV != want.HashKV || got.HashRevision != want.HashRevision || got.CompactRevision != want.CompactRevision ||
		got.TotalKeys != want.TotalKeys {
		return p.differs(fmt.Errorf("HashKV is %d at revision %d, compacted up to %d, with %d keys, and that of the later "+
			"snapshot is %d, %d, %d and %d",
			got.HashKV, got.HashRevision, got.CompactRevision, got.TotalKeys,
			want.HashKV, want.HashRevision, want.CompactRevision, want.TotalKeys))
	}
	return nil
}

// differs is the verdict that the journal does not lead from one snapshot to the other.
func (p *Proof) differs(cause error) error {
	return verdict{snapshot.ReasonSnapshotUnreadable.New("the journal %s does not lead from %s, revision %d, to %s, "+
		"revision %d",
		p.Replayed.Timeline, p.Base.Name, p.Replayed.Base, p.Snapshot.Name, p.Replayed.Revision).
		Because(cause).
		Advise("revisions between the two cannot be relied on; those of each snapshot can. Save the segments for those " +
			"who mend the program")}
}

// DrillAt restores a revision of a timeline, from the newest snapshot before it and the journal behind that, into a
// throw-away etcd. It returns the base and the segments that were used.
func DrillAt(
	ctx context.Context, o VerifyOptions, t segment.Timeline, revision int64,
) (*Replayed, repository.Drilled, error) {
	var none repository.Drilled
	work, err := os.MkdirTemp(o.Dir, "prove-")
	if err != nil {
		return nil, none, fmt.Errorf("drill a revision: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	opts := Options{Repositories: o.repositories(), Identities: o.Identities, DataDir: filepath.Join(work, "data")}
	all, err := list(ctx, opts.Repositories)
	if err != nil {
		return nil, none, err
	}
	l := &lookback{Options: opts, listing: all, file: filepath.Join(work, "past.db")}
	j := l.loadJournal(ctx, opts)
	i := slices.IndexFunc(j.Timelines, func(some *plan.Timeline) bool { return some.Name == t })
	if i < 0 {
		err := fmt.Errorf("drill revision %d: no backend has the journal %s", revision, t)
		return nil, none, errors.Join(append(j.Unread, err)...)
	}
	if err := l.forward(ctx, j.Timelines[i], revision, false); err != nil {
		return nil, none, l.ofJournal(err)
	}
	drilled, err := o.Driller.Drill(ctx, l.file, revision)
	if err != nil {
		err = fmt.Errorf("drill revision %d of the journal %s: %w", revision, t, err)
		if errors.Is(err, repository.ErrNotRestorable) {
			err = verdict{err}
		}
	}
	return l.res.Replayed, drilled, err
}
