package daemon

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/internal/proving"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/keeping"
	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/journal/upkeep"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/telemetry"
)

// openJournal makes the journal of a cluster, if it has one. Its directory is not touched before the cluster starts,
// because after a reload the predecessor of the cluster may still write there. The journal is closed before what it
// uses. It shares repos with the snapshots: a store whose identity was verified once is for both.
func (s *Service) openJournal(
	cfg *config.Cluster, spool string, p parts, repos []*repository.Repository, k keys, c *managed,
) error {
	if !cfg.Journal.Enabled {
		return nil
	}
	path, err := filepath.Abs(filepath.Join(s.dir.path, config.JournalDir, cfg.Name))
	if err != nil {
		return err
	}
	f, log := p.following, c.log
	f.noter = keeping.NewNoter(p.catalog, s.cfg.NodeName, log)
	var stores []journal.Store
	var places []upkeep.Place
	for _, repo := range repos {
		store := segments.New(segments.Config{Repository: repo, Recipients: k.recipients, Identities: k.identities})
		stores = append(stores, store)
		places = append(places, upkeep.Place{Repository: repo, Segments: store})
	}
	f.prover = s.proverOf(cfg, spool, p, repos, k, log)
	f.journal = journal.New(journal.Config{
		Source: etcd.NewFollowed(p.source), Stores: stores, Dir: path,
		FlushInterval: cfg.Journal.FlushInterval, UploadInterval: cfg.Journal.UploadInterval,
		MaxBytes: int64(cfg.Journal.MaxLocalBytes),
		Base: func(ctx context.Context, need journal.Base) error {
			c.work.RLock() // a term that ended now would end the save
			defer c.work.RUnlock()
			return saveBase(ctx, c, need)
		},
		Broken: func(ctx context.Context, why segment.Cause, where ...snapshot.JournalBreak) {
			s.telemetry.JournalBroken(ctx, cfg.Name, string(why))
			f.noter.Broken(where...)
		},
		Grown:  func(where snapshot.JournalBreak) { f.noter.Broken(where) },
		Latest: func(ctx context.Context) (segment.Timeline, error) { return latest(ctx, p.catalog) },
		Note:   func(ctx context.Context, t segment.Timeline) error { return noteTimeline(ctx, p.catalog, t) },
		Logger: log,
	})
	f.keeper = keeping.New(keeping.Config{
		Journal: f.journal, Places: places, Window: cfg.Journal.Window, Noter: f.noter, Logger: log,
	})
	c.following.later("journal", f.journal.Close)
	return nil
}

// proverOf makes what checks the journal of a cluster, in the spool.
func (s *Service) proverOf(
	cfg *config.Cluster, spool string, p parts, repos []*repository.Repository, k keys, log *slog.Logger,
) *proving.Prover {
	return proving.New(proving.Config{
		Catalog: p.catalog, Repositories: repos, Identities: k.identities, Dir: spool, Logger: log,
		Driller: inTurn{drill.Driller{}, cfg.Name, s.queues.drills},
		Turn: func(ctx context.Context) (func(), error) {
			return takeTurn(ctx, s.queues.restores, cfg.Name+"/journal", "check the journal") // the name of a cluster has no '/'
		},
		Checked: func(ctx context.Context, kind proving.Kind, passed bool) {
			s.telemetry.JournalChecked(ctx, cfg.Name, string(kind), passed)
		},
		Drilled: func(ctx context.Context, d *snapshot.JournalDrill) error {
			return p.catalog.AmendJournalNotes(ctx, func(notes *snapshot.JournalNotes) { notes.Drill = d })
		},
	})
}

// latest returns the newest timeline that a leader has noted in the catalog.
func latest(ctx context.Context, c *catalog.Catalog) (segment.Timeline, error) {
	t, err := c.Timeline(ctx, isTimeline)
	return segment.Timeline(t.Name), err
}

// isTimeline reports whether a name in the catalog, where others can write, can be that of a timeline. One of the far
// future is not: no timeline could begin that is later.
func isTimeline(name string) bool {
	t := segment.Timeline(name)
	return t.Valid() && !snapshot.Ahead(t.Start(), time.Now())
}

// noteTimeline notes a timeline in the catalog, unless it is there. An earlier one than that is left out.
func noteTimeline(ctx context.Context, c *catalog.Catalog, t segment.Timeline) error {
	was, err := c.Timeline(ctx, isTimeline)
	if err != nil || was.Name == string(t) || segment.Timeline(was.Name).Later(t) {
		return err
	}
	return c.PutTimeline(ctx, was, string(t))
}

// startJournal starts to upload, and makes the metrics of the journal begin.
func (c *managed) startJournal(ctx context.Context) {
	if c.journal == nil {
		return
	}
	var causes, kinds []string
	for _, why := range segment.Causes() {
		causes = append(causes, string(why))
	}
	for _, k := range proving.Kinds() {
		kinds = append(kinds, string(k))
	}
	state := func() telemetry.JournalState {
		return measured(c.journal.Status(), c.prover.UpTo(), c.keeper.State)
	}
	c.telemetry.AddJournal(ctx, c.Name(), state, causes, kinds)
	c.noter.Run(ctx, &c.loops)
	c.loops.Go(func() { c.journal.Run(ctx) })
}

// measured returns the metrics of a journal. copies tells of those on a backend.
func measured(s journal.Status, proven time.Time, copies func(backend string) upkeep.State) telemetry.JournalState {
	m := telemetry.JournalState{
		Proven: proven, Leading: s.Leading, RPO: time.Since(s.Complete), Revision: s.Revision, Lag: -1, LocalBytes: s.Bytes,
	}
	if s.Endpoint != "" && s.Current > 0 { // else it is not known how far etcd has gone on
		m.Lag = s.Lag()
	}
	for _, b := range s.Stores {
		at := copies(b.Name)
		m.Backends = append(m.Backends, telemetry.JournalBackend{
			Name: b.Name, RPO: time.Since(b.Complete), Segments: b.Segments, Bytes: b.Bytes,
			Compared: at.Known, Lacking: at.Lacking, Damaged: at.Damaged, Copied: at.Copied,
		})
	}
	return m
}

// baseLabel is the label of snapshots that were taken because the journal needs one.
const baseLabel = "journal"

// saveBase takes a snapshot from which the journal can be replayed, unless there is one, when it is its turn. The rules
// of retention apply to it as to those of schedules. One that some backends lack is enough: repair brings it there, and
// the error names them until it has.
func saveBase(ctx context.Context, c *managed, need journal.Base) error {
	there, err := c.base(ctx, need)
	if err != nil {
		return err
	}
	if there != nil {
		return lacking(&there.Snapshot, c.BackendNames())
	}
	if err := awaitTime(ctx, need.Since); err != nil {
		return err
	}
	res, err := c.Save(ctx, cluster.SaveRequest{
		NamePrefix: config.ScheduledPrefix,
		Labels:     map[string]string{baseLabel: "base"},
		Trigger:    snapshot.TriggerScheduled,
	})
	if err != nil && res.Snapshot != nil && res.Snapshot.State() == snapshot.StatePartial {
		return lacking(res.Snapshot, c.BackendNames())
	}
	return err
}

// base returns a snapshot that serves as a base: a READY one if there is one, or a PARTIAL one, or nil. It was to go to
// all backends: no repair brings that of a schedule with backends of its own to the others.
func (c *managed) base(ctx context.Context, need journal.Base) (partial *snapshot.Record, err error) {
	query := snapshot.Query{
		States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial},
		From:   need.Since, Until: time.Now().Add(snapshot.ClockTolerance), PageSize: 100,
	}
	for {
		page, err := c.List(ctx, query)
		if err != nil {
			return nil, err
		}
		for _, rec := range page.Records {
			lacks := func(name string) bool { return rec.Location(name) == nil }
			switch {
			case slices.ContainsFunc(c.BackendNames(), lacks) || !need.Serves(&rec.Snapshot):
			case rec.State() == snapshot.StateReady:
				return rec, nil
			case partial == nil:
				partial = rec
			}
		}
		if query.PageToken = page.NextPageToken; query.PageToken == "" {
			return partial, nil
		}
	}
}

// last returns the newest snapshot in one of the states, or nil. One that is of the future was taken by a wrong clock
// and does not count.
func (c *managed) last(ctx context.Context, states ...snapshot.State) (*snapshot.Record, error) {
	page, err := c.List(ctx, snapshot.Query{
		States: states, Until: time.Now().Add(snapshot.ClockTolerance), PageSize: 1,
	})
	if err != nil || len(page.Records) == 0 {
		return nil, err
	}
	return page.Records[0], nil
}

// lacking is the error that some backends of this replica lack a snapshot; nil when none does.
func lacking(r *snapshot.Snapshot, backends []string) error {
	names := slices.DeleteFunc(slices.Clone(backends), func(name string) bool {
		l := r.Location(name)
		return l != nil && l.State == snapshot.StateReady
	})
	if len(names) == 0 {
		return nil
	}
	return &journal.PartialBase{Lacking: names}
}

// following is what a leader does beside the domain's loops. All of it is nil without a journal.
type following struct {
	journal *journal.Journal
	keeper  *keeping.Keeper
	noter   *keeping.Noter
	prover  *proving.Prover
}

// during follows etcd as long as lead runs, until ctx, the term of a leader, ends.
func (f *following) during(ctx context.Context, term int64, lead func()) {
	var work sync.WaitGroup
	if f.journal != nil {
		work.Go(func() { f.journal.Follow(ctx, term) })
		work.Go(func() { f.keeper.Run(ctx) })
		work.Go(func() { f.prover.Run(ctx) })
	}
	lead()
	work.Wait()
}
