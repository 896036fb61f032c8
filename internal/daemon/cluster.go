package daemon

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/internal/fairqueue"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/server/feed"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/snapshot/retention"
	"github.com/snapshotd/snapshotd/telemetry"
)

// managed is a cluster of the domain with the parts that its loops need.
type managed struct {
	*cluster.Cluster
	facts
	timetable
	cfg     config.Cluster // in effect
	uses    uses
	closers closers
	work    sync.RWMutex // held for reading by work that a leader ends before it gives way
	loops   sync.WaitGroup
	// following is closed as soon as the loops have ended, because a successor of this cluster has the same directory.
	following closers
	stop      context.CancelFunc // of the loops
	begun     chan struct{}      // closed when it is decided whether the loops begin; nil for those of the start
	after     <-chan struct{}    // closed when its predecessor has ended; nil without one
	ending    sync.Once
	ended     chan struct{} // closed when the loops have ended, and following is closed

	// wakeDelivery makes an upload fallback be looked for; nil before the loops.
	wakeDelivery atomic.Pointer[func()]
	successor    atomic.Pointer[managed] // under the same name; nil while the cluster is served, or when it was removed
	changes      changes
	noting       noting
	judge        func(context.Context) // for the metric of the verdict

	lead      schedule.Campaign
	interval  func() time.Duration // between the end of one reconcile and the next
	limits    limits
	queues    queues           // of all clusters
	restoring *fairqueue.Queue // of this cluster, one at a time
	waiting   waiting
	watched   snapshot.Observer // of what happens, also to saves before they begin
	feed      *feed.Feed
	telemetry *telemetry.Telemetry
	log       *slog.Logger
}

// Follow yields the events that the catalog records. The catalog is watched once, however many follow it.
func (c *managed) Follow(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
	return c.feed.Follow(ctx, after)
}

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
		limits:    newLimits(&cfg),
		queues:    s.queues,
		restoring: fairqueue.New(1, nil),
		telemetry: s.telemetry,
		log:       s.log.With("cluster", cfg.Name),
	}
	c.judge = c.recordVerdict
	c.watched = snapshot.Observers{s.telemetry.Observer(), s.events, &c.noting, &c.changes}
	if err := s.buildCluster(&c.cfg, c); err != nil {
		c.following.close(ctx, s.log)
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
	parts, err := s.openParts(cfg, c.limits.upload, c.log, &c.closers)
	if err != nil {
		return err
	}
	conf := s.domainConfig(cfg, parts, keys, c.limits, c.watched)
	conf.SpoolDir = spool
	conf.Fallback = fallback
	if c.Cluster, err = cluster.New(conf); err != nil {
		return err
	}
	if err := s.openJournal(cfg, spool, parts, c.Repositories(), keys, c); err != nil {
		return err
	}
	scrub := noted(parts.catalog.NoteScrub, c.log, withJournal(c.scrubInTurn(c.Scrub), parts.following))
	if c.timetable, err = timetableOf(cfg, scrub, c.ScrubLocal); err != nil {
		return err
	}
	c.facts = s.factsOf(cfg, parts, c.timetable)
	c.facts.noting = &c.noting
	c.lead = parts.lead
	c.feed = feed.New(c.Cluster.Follow)
	return nil
}

// domainConfig returns a cluster as the domain takes it, but for its directories.
func (s *Service) domainConfig(
	cfg *config.Cluster, p parts, k keys, l limits, watched snapshot.Observer,
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
		StreamLimit: l.stream,
		Watchdog:    cfg.WatchdogTimeout,
		LeftoverAge: cfg.LeftoverAge,
	}
}

// retentions returns the retention of each backend: its own, or the cluster's.
func retentions(cfg *config.Cluster, node string) map[string]retention.Rules {
	all := make(map[string]retention.Rules, len(cfg.Backends))
	for _, b := range cfg.Backends {
		r := cfg.Retention
		if b.Retention != nil {
			r = *b.Retention
		}
		zone, err := time.LoadLocation(r.TimeZone) // "" is UTC
		if err != nil {
			zone = time.UTC // it was checked when the configuration was read
		}
		all[b.On(node)] = retention.Rules{
			KeepLast: r.KeepLast, KeepHourly: r.KeepHourly, KeepDaily: r.KeepDaily, KeepWeekly: r.KeepWeekly,
			KeepMonthly: r.KeepMonthly, KeepYearly: r.KeepYearly, KeepWithin: r.KeepWithin, RecoveryWindow: r.RecoveryWindow,
			MaxTotalBytes: int64(r.MaxTotalBytes), MinKeep: r.MinKeep, OnDemand: r.OnDemand, Adopted: r.Adopted, TimeZone: zone,
		}
	}
	return all
}

// password returns the password, from the file if there is one. The newline with which editors end files is not part of
// it.
func password(cfg config.Etcd) (string, error) {
	if cfg.PasswordFile == "" {
		return cfg.Password.Reveal(), nil
	}
	b, err := os.ReadFile(cfg.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read etcd's password: %w (password_file, --etcd-password-file)", err)
	}
	p := strings.TrimRight(string(b), "\r\n")
	if p == "" {
		return "", fmt.Errorf("read etcd's password: %s is empty (password_file, --etcd-password-file)", cfg.PasswordFile)
	}
	return p, nil
}
