package daemon

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/snapshotd/snapshotd/catalog"
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
) (*following, error) {
	if !cfg.Journal.Enabled {
		return nil, nil //nolint:nilnil // none is no error
	}
	path, err := filepath.Abs(filepath.Join(s.dir.path, config.JournalDir, cfg.Name))
	if err != nil {
		return nil, err
	}
	log := c.log
	f := &following{
		noter: keeping.NewNoter(p.catalog, s.cfg.NodeName, log), prover: s.proverOf(cfg, spool, p, repos, k, log),
	}
	var stores []journal.Store
	var places []upkeep.Place
	// One store of segments for both: its backend is asked once for each fact.
	for _, repo := range repos {
		store := segments.New(segments.Config{Repository: repo, Recipients: k.recipients, Identities: k.identities})
		stores = append(stores, store)
		places = append(places, upkeep.Place{Repository: repo, Segments: store})
	}
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
	c.directory.later("journal", f.journal.Close)
	return f, nil
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
	f := c.following
	if f == nil {
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
		return measured(f.journal.Status(), f.prover.UpTo(), f.keeper.State)
	}
	c.telemetry.AddJournal(ctx, c.Name(), state, causes, kinds)
	f.noter.Run(ctx, &c.loops)
	c.loops.Go(func() { f.journal.Run(ctx) })
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
