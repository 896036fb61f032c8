// Package fallback decides about the upload fallback of a replica: which snapshots stay on its disk, and what their
// records say.
//
// A snapshot that no backend took may be the last copy of a cluster that is lost next. So it goes on positive proof
// alone, and [Fallback.proof] decides what is one:
//
//   - a backend shows this very snapshot, and its record counts on it;
//   - a backend shows a snapshot of the same etcd that was taken later and has no lower revision, or this disk has one
//     that can be delivered, and etcd was not restored to an earlier state in between, as far as revisions show;
//   - there are no bytes of it, or bytes without a manifest, which a save has left that was killed: no caller was told
//     of a snapshot then.
//
// Beside that, a caller can delete it, from this replica.
//
// Nothing else is a proof. The catalog alone is none: a record may say SAVING because its save was killed or could not
// write the outcome, or name a save that took the request over and came to nothing; it may be gone with a catalog that
// came back from the past, be unreadable, or be another snapshot's. That an upload found nothing to do is none, either.
// In all these cases the snapshot stays, and its record is made to say so, by which it is delivered. What keeps it from
// being delivered is logged. A snapshot that a record says is here, and is not, is lost, and the record then says that.
//
// The files go last: until then a crash leaves a snapshot too many, and never one too few.
package fallback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Records is the part of the catalog that keeps records.
type Records interface {
	Get(ctx context.Context, name string) (*snapshot.Record, error)
	Update(ctx context.Context, r *snapshot.Record) error
	Create(ctx context.Context, r *snapshot.Record) error
	Scan(ctx context.Context) iter.Seq2[*snapshot.Record, error]
}

// History is the part of the catalog that finds the newest snapshots.
type History interface {
	List(ctx context.Context, q snapshot.Query) (snapshot.Page, error)
}

// Requests is the part of the catalog that knows the snapshot of a request.
type Requests interface {
	ByRequestID(ctx context.Context, id string) (*snapshot.Record, error)
}

// Config describes a replica's fallback for one cluster. All of it is needed.
type Config struct {
	Place    *repository.Repository   // the directory of this replica
	Backends []*repository.Repository // of the cluster, in the order of the configuration
	Node     string
	Records  Records
	History  History
	Requests Requests
	// OwnerAlive reports whether the replica that saves the snapshot of a record is at work.
	OwnerAlive func(ctx context.Context, rec *snapshot.Record) (bool, error)
	// LiveEtcd returns the id of the etcd cluster that is saved now; empty when it is not known.
	LiveEtcd    func(ctx context.Context) string
	LeftoverAge time.Duration // how old the leftovers of a crash are when they go
	Now         func() time.Time
	Logger      *slog.Logger
}

// Fallback is the upload fallback of a replica for one cluster. Its methods may be called at once: they wait for each
// other.
type Fallback struct {
	cfg      Config
	node     snapshot.Node
	turn     chan struct{}     // has room for one call; guards what follows
	stuck    map[string]string // by name: why a snapshot cannot be delivered, as it was logged
	lostTold bool              // records of snapshots that should be here and are not were looked for
}

// New returns a fallback. It does no I/O.
func New(cfg Config) *Fallback {
	return &Fallback{cfg: cfg, node: snapshot.Node(cfg.Node), turn: make(chan struct{}, 1), stuck: map[string]string{}}
}

// take waits until no other call is at work.
func (f *Fallback) take(ctx context.Context) (release func(), err error) {
	select {
	case f.turn <- struct{}{}:
		return func() { <-f.turn }, nil
	case <-ctx.Done():
		return nil, snapshot.Cancelled(ctx, "wait for the upload fallback")
	}
}

// Snapshot is a snapshot that stays in the fallback.
type Snapshot struct {
	Record *snapshot.Record // by which it can be delivered; nil when it cannot be now

	entry repository.Entry
	found *snapshot.Record // as its manifest describes it; nil when none does
	why   error            // why none does
	ended bool             // no newer snapshot has its history, see [snapshot.Snapshot.EndsTimelineOf]
}

// Reconcile removes the snapshots that need not stay, and makes the records of the others say that they are here. It
// returns those that stay. The error is that of the catalog, of the disk or of ctx. A snapshot that cannot be removed
// keeps no other one from being delivered: its error comes beside those that stay.
func (f *Fallback) Reconcile(ctx context.Context) (stay []*Snapshot, err error) {
	release, err := f.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	entries, err := f.cfg.Place.Entries(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*Snapshot, len(entries))
	for i, e := range entries {
		all[i] = f.read(ctx, e)
	}
	now := f.cfg.Now()
	slices.SortStableFunc(all, func(a, b *Snapshot) int { return newestFirst(a.found, b.found, now) })
	if err := f.findEnded(ctx, all); err != nil {
		return nil, err
	}
	var undropped []error
	for _, k := range all {
		proof, err := f.reconcileOne(ctx, k, stay)
		if err == nil && proof == "" {
			stay = append(stay, k)
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := f.drop(ctx, k.entry, proof); err != nil {
			undropped = append(undropped, err)
		}
		if ctx.Err() != nil {
			return nil, snapshot.Cancelled(ctx, "reconcile the upload fallback")
		}
	}
	f.sweep(ctx)
	// What is here is delivered whatever is known of what is not.
	if err := f.tellLost(ctx); err != nil {
		if len(stay) == 0 || ctx.Err() != nil {
			return nil, errors.Join(append(undropped, err)...)
		}
		f.cfg.Logger.WarnContext(ctx, "not known yet whether a snapshot that was kept here is lost", "error", err)
	}
	return stay, errors.Join(undropped...)
}

// sweep removes the temporary files of saves that were killed while they wrote here. A save that still runs, after the
// configuration was read anew, writes to a file that is younger than leftovers are. What cannot be swept delays
// nothing.
func (f *Fallback) sweep(ctx context.Context) {
	before := f.cfg.Now().Add(-f.cfg.LeftoverAge)
	n, err := f.cfg.Place.Sweep(ctx, repository.SweepOptions{OlderThan: before, Keep: func(key string) bool {
		key, ours := strings.CutPrefix(key, f.cfg.Place.Prefix())
		return !ours || !snapshot.OwnKey(key)
	}})
	if err != nil && ctx.Err() == nil {
		f.cfg.Logger.WarnContext(ctx, "leftovers in the upload fallback not swept", "error", err)
	}
	if n > 0 {
		f.cfg.Logger.InfoContext(ctx, "leftovers swept in the upload fallback", "count", n)
	}
}

// proof says why a snapshot need not stay in the fallback; empty when nothing proves that. rec is its record, nil when
// the catalog has none. ahead are the snapshots of the fallback that stay and come before it.
func (f *Fallback) proof(ctx context.Context, k *Snapshot, rec *snapshot.Record, ahead []*Snapshot) (string, error) {
	if k.found == nil {
		return f.proofOfNothing(ctx, k, rec), nil
	}
	now := f.cfg.Now()
	for _, o := range ahead {
		if !k.ended && o.Record != nil && o.found.Supersedes(&k.found.Snapshot, now) {
			return o.entry.Name + " is newer, and is kept here, too", nil
		}
	}
	if rec != nil && rec.StoredSHA256 == k.found.StoredSHA256 {
		for _, r := range In(f.cfg.Backends, rec, snapshot.StateReady) {
			if shown, err := r.Shown(ctx, rec.Name); err == nil && shown.StoredSHA256 == k.found.StoredSHA256 {
				return fmt.Sprintf("backend %q has it", r.Name()), nil
			}
		}
	}
	if k.ended {
		return "", nil
	}
	return f.newerStored(ctx, k.found)
}

// proofOfNothing says why an entry is no snapshot. One that its record names is never taken for what a killed save has
// left.
func (f *Fallback) proofOfNothing(ctx context.Context, k *Snapshot, rec *snapshot.Record) string {
	if !k.entry.HasData() && snapshot.ReasonOf(k.why) == snapshot.ReasonSnapshotUnreadable {
		return "its data is gone"
	}
	described, err := f.cfg.Place.HasManifest(ctx, k.entry.Name)
	if err != nil || described || rec != nil && f.node.HasFallback(rec) ||
		!k.entry.Unfinished(f.cfg.Now().Add(-f.cfg.LeftoverAge)) {
		return ""
	}
	return "its save was killed before it was whole"
}

// newerStored says which newer snapshot a backend shows; empty when none does. The catalog only tells where to look.
func (f *Fallback) newerStored(ctx context.Context, found *snapshot.Record) (string, error) {
	now := f.cfg.Now()
	q := snapshot.Query{
		States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial}, PageSize: 10,
		From: found.CreateTime, Until: now.Add(snapshot.ClockTolerance),
	}
	if found.InFuture(now) {
		q.From = time.Time{}
	}
	newest, err := f.cfg.History.List(ctx, q)
	if err != nil {
		return "", err
	}
	for _, rec := range newest.Records {
		if !rec.Supersedes(&found.Snapshot, now) {
			continue
		}
		for _, r := range In(f.cfg.Backends, rec, snapshot.StateReady) {
			if shown, err := r.Shown(ctx, rec.Name); err == nil && shown.Supersedes(&found.Snapshot, now) {
				return fmt.Sprintf("backend %q has %s, which is newer", r.Name(), rec.Name), nil
			}
		}
	}
	return "", nil
}

// newestFirst orders snapshots so that each comes before those that it makes useless: by revision and time, behind them
// those whose time a wrong clock has set, and last what no manifest describes.
func newestFirst(a, b *snapshot.Record, now time.Time) int {
	last := func(r *snapshot.Record) int {
		switch {
		case r == nil:
			return 2
		case r.InFuture(now):
			return 1
		}
		return 0
	}
	if a == nil || b == nil {
		return last(a) - last(b)
	}
	return cmp.Or(last(a)-last(b), cmp.Compare(b.Revision, a.Revision), b.CreateTime.Compare(a.CreateTime))
}

// In returns the repositories on which a record has a location in a state.
func In(repos []*repository.Repository, rec *snapshot.Record, state snapshot.State) []*repository.Repository {
	return slices.DeleteFunc(slices.Clone(repos), func(r *repository.Repository) bool {
		l := rec.Location(r.Name())
		return l == nil || l.State != state
	})
}

// Due returns when a snapshot that stays is to be looked at next.
func (k *Snapshot) Due(backends []*repository.Repository, now time.Time) (due time.Time) {
	if k.Record != nil {
		for _, r := range In(backends, k.Record, snapshot.StateFailed) {
			if d := k.Record.RepairDue(r.Name(), now); due.IsZero() || d.Before(due) {
				due = d
			}
		}
	}
	if due.IsZero() {
		return now.Add(snapshot.FirstRepair)
	}
	return due
}
