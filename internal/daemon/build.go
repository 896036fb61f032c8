package daemon

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/internal/fairqueue"
	"github.com/snapshotd/snapshotd/server/feed"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// compressions are those of the configuration, which was validated: no other text comes here.
var compressions = map[string]snapshot.Compression{
	"zstd": snapshot.CompressionZstd,
	"none": snapshot.CompressionNone,
}

// openCluster builds a cluster and its parts. Nothing is dialled before it is needed.
func (s *Service) openCluster(ctx context.Context, cfg config.Cluster) (*managed, error) {
	c := &managed{
		cfg:       cfg,
		stop:      func() {},
		ended:     make(chan struct{}),
		interval:  s.settings.reconcileInterval,
		rates:     newRates(&cfg),
		queues:    s.queues,
		restoring: fairqueue.New(1, nil),
		telemetry: s.telemetry,
		log:       s.log.With("cluster", cfg.Name),
	}
	c.judge = c.recordVerdict
	// The notes come before the judgement: an event is noted when the cluster is judged for it.
	c.watched = snapshot.Observers{s.telemetry.Observer(), s.events, &c.noting, &c.changes}
	if err := s.buildCluster(&c.cfg, c); err != nil {
		// As at the end of a cluster: the journal is closed before the connections that it uses.
		c.directory.close(ctx, s.log)
		c.closers.close(ctx, s.log)
		return nil, fmt.Errorf("open cluster %q: %w", cfg.Name, err)
	}
	return c, nil
}

// buildCluster opens the parts of a cluster. Their order decides which of several mistakes is told.
func (s *Service) buildCluster(cfg *config.Cluster, c *managed) error {
	spool, err := s.dir.spool(cfg.Name)
	if err != nil {
		return err
	}
	fallback, err := s.openFallback(cfg.Name, &c.closers)
	if err != nil {
		return err
	}
	keys, err := keysOf(cfg)
	if err != nil {
		return err
	}
	parts, err := s.openParts(cfg, c.rates.upload, c.log, &c.closers)
	if err != nil {
		return err
	}
	conf := s.domainConfig(cfg, parts, keys, c.rates, c.watched)
	conf.SpoolDir = spool
	conf.Fallback = fallback
	if c.Cluster, err = cluster.New(conf); err != nil {
		return err
	}
	// Behind cluster.New, whose repositories it shares.
	following, err := s.openJournal(cfg, spool, parts, c.Repositories(), keys, c)
	if err != nil {
		return err
	}
	// From the inside out: the scrub of the snapshots, when it is its turn, then that of the journal; the note is of both.
	scrub := noted(parts.catalog.NoteScrub, c.log, following.scrubbing(c.scrubInTurn(c.Scrub)))
	if c.timetable, err = timetableOf(cfg, scrub, c.ScrubLocal); err != nil {
		return err
	}
	c.facts = s.factsOf(cfg, parts, c.timetable)
	c.following, c.facts.noting = following, &c.noting
	c.lead = following.campaign(parts.catalog, s.cfg.NodeName)
	c.feed = feed.New(c.Cluster.Follow)
	return nil
}

// domainConfig returns a cluster as the domain takes it, but for its directories.
func (s *Service) domainConfig(
	cfg *config.Cluster, p parts, k keys, r rates, watched snapshot.Observer,
) cluster.Config {
	return cluster.Config{
		Name:        cfg.Name,
		Node:        s.cfg.NodeName,
		Prefix:      *cfg.Prefix,
		Source:      p.source,
		Records:     p.catalog,
		Saves:       p.catalog,
		History:     p.catalog,
		Stores:      p.catalog,
		Backends:    p.backends,
		Driller:     inTurn{drill.Driller{}, cfg.Name, s.queues.drills},
		Turn:        adoptInTurn(s.queues.restores, cfg.Name),
		Identities:  k.identities,
		Compression: compressions[cfg.Compression],
		Recipients:  k.recipients,
		Signer:      k.signer,
		Trust:       k.trust,
		Retention:   retentions(cfg, s.cfg.NodeName),
		Observer:    watched,
		Logger:      s.log,
		StreamLimit: r.stream,
		Watchdog:    cfg.WatchdogTimeout,
		LeftoverAge: cfg.LeftoverAge,
	}
}

// factsOf returns the facts of a cluster, but for those of its journal.
func (s *Service) factsOf(cfg *config.Cluster, p parts, t timetable) facts {
	f := facts{
		catalog: p.catalog,
		store:   storeOf(cfg),
		node:    s.cfg.NodeName,
		certs:   certificates{&s.certificates, certificateFiles(cfg)},
		saving:  func() *status.Moving { return s.events.Moving(cfg.Name) },
		kept:    cfg.Journal.Window,

		notInEffect: new(atomic.Pointer[error]),
	}
	rules := retentions(cfg, s.cfg.NodeName)
	for i, b := range cfg.Backends {
		at := newPlace(b, p.backends[i].Info())
		at.Retention = rules[at.Name]
		f.places = append(f.places, at)
	}
	if len(t.scrubs) > 0 {
		sch := t.scrubs[0]
		f.scrub = &status.Scrub{Cron: cfg.Scrub.Cron, Jitter: sch.Jitter, Drill: cfg.Scrub.Drill, Next: sch.Spec.Next}
	}
	for i, sch := range t.schedules {
		f.times = append(f.times, status.Schedule{
			Name: sch.Name, Cron: cfg.Schedules[i].Cron, TimeZone: cfg.Schedules[i].TimeZone, Jitter: sch.Jitter,
			Backends: sch.Save.Backends, Next: sch.Spec.Next,
		})
	}
	return f
}

// storeOf returns where the snapshots lie and which keys they take, for a restore without the service.
func storeOf(cfg *config.Cluster) status.Store {
	return status.Store{
		Prefix: *cfg.Prefix, Encrypted: cfg.Encryption.Enabled(), Decrypts: len(cfg.Encryption.IdentityFiles) > 0,
		Signed: cfg.Signing.KeyFile != "" && !cfg.Signing.AcceptUnsigned,
	}
}
