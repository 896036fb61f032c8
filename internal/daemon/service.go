package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/server"
	bounds "github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/telemetry"
)

// closeTimeout is how long each part may take to close after the server has stopped.
const closeTimeout = 5 * time.Second

// Config of a [Service].
type Config struct {
	Config  *config.Config // validated
	Dev     bool           // start an etcd with data in it, and make a directory as backend where there is none
	Version string
	Log     io.Writer

	// Reload asks for the configuration to be read again, by Load. Both may be nil.
	Reload <-chan os.Signal
	Load   func() (*config.Config, error)
}

// Service is everything that `snapshotd serve` runs. Its methods are called once each, in this order: New, Open, Run.
type Service struct {
	cfg      *config.Config // in effect since the start, but for what a reload changes
	conf     Config
	applied  *config.Config // whose settings are in effect
	rules    *config.Access // in effect
	settings settings
	log      *slog.Logger
	// written is the part of the log that does not leave over OTLP.
	written slog.Handler

	events       *server.Events
	queues       queues
	atATime      int   // saves
	memory       int64 // bytes that the process may use; 0 when it is not known
	free         int64 // bytes on the disk of the spool at the start; 0 when it is not known
	telemetry    *telemetry.Telemetry
	server       *server.Server
	dir          *dataDir
	clusters     []*managed
	stranded     map[string]bool // clusters that are not configured, of which it was told that something is kept
	closers      closers
	certificates certificateReader

	loops     sync.WaitGroup // of the reloads
	retired   sync.WaitGroup // of clusters that are served no more, until they are closed
	stopLoops context.CancelFunc

	stopTimeout time.Duration
}

// New returns a service. It does no I/O.
func New(conf Config) (*Service, error) {
	s := &Service{
		cfg:         conf.Config,
		conf:        conf,
		applied:     conf.Config,
		rules:       conf.Config.Access,
		events:      &server.Events{},
		stopLoops:   func() {},
		stopTimeout: stopTimeout,
		stranded:    map[string]bool{},
	}
	if err := s.settings.set(conf.Config); err != nil {
		return nil, err
	}
	s.written = newHandler(conf.Log, conf.Config.Log.Format, &s.settings.level)
	s.log = newLogger(s.written, nil)
	return s, nil
}

// Open builds everything and listens, so that the addresses are known. It fails for problems that only a person can
// solve: a data directory in use, a port that is taken, a file that is missing. An etcd or a backend that does not
// answer is no such problem: it is logged, and calls that need it fail. On an error, everything that was opened is
// closed again.
func (s *Service) Open(ctx context.Context) error {
	err := s.open(ctx)
	if err != nil {
		s.close(ctx)
	}
	return err
}

func (s *Service) open(ctx context.Context) error {
	dir, err := openDataDir(s.cfg.DataDir)
	if err != nil {
		return err
	}
	s.dir = dir
	s.closers.later("data directory", func(context.Context) error { return dir.close() })
	if err := s.openTelemetry(ctx); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "service is starting", "version", s.conf.Version, "node", s.cfg.NodeName, "data_dir",
		s.cfg.DataDir)
	warnings := s.cfg.Warnings(time.Now())
	if s.conf.Dev {
		warnings = s.cfg.Risks() // a trial needs no schedule
	}
	for _, w := range warnings {
		s.log.WarnContext(ctx, "configuration is allowed and probably not meant", "warning", w)
	}
	s.cfg.ForgetOrigins() // those of a thousand clusters are 2 MB
	if err := dir.emptySpool(); err != nil {
		return err
	}
	s.openJobs(ctx)
	s.boundMemory()
	if s.conf.Dev {
		if err := s.openDev(ctx, dir); err != nil {
			return err
		}
	}
	for i := range s.cfg.Clusters {
		c, err := s.openCluster(ctx, s.cfg.Clusters[i])
		if err != nil {
			return err
		}
		s.clusters = append(s.clusters, c)
	}
	s.tellStranded(ctx)
	return s.openServer(ctx)
}

// openTelemetry starts the telemetry. From then on, the log goes to its collector, too.
func (s *Service) openTelemetry(ctx context.Context) error {
	t, err := telemetry.Start(ctx, telemetry.Config{
		MetricsPrefix: s.cfg.MetricsPrefix, ServiceVersion: s.conf.Version, Node: s.cfg.NodeName, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.telemetry = t
	s.closers.later("telemetry", t.Shutdown)
	s.log = newLogger(s.written, t)
	// Lines that libraries print with the log package go to this log, in its format.
	slog.SetLogLoggerLevel(slog.LevelWarn)
	slog.SetDefault(s.log)
	return nil
}

func (s *Service) openServer(ctx context.Context) error {
	for _, r := range server.Refusals {
		s.telemetry.AddAccess(ctx, string(r))
	}
	records, err := s.openAudit()
	if err != nil {
		return err
	}
	settings := s.serverSettings(ctx, s.cfg)
	srv, err := server.New(server.Config{ //nolint:contextcheck // connections that are counted later are of no call
		Clusters: served(s.clusters),
		TraceURL: settings.TraceURL,
		Events:   s.events,
		Version:  s.conf.Version,
		Metrics:  s.telemetry.MetricsHandler(),
		GRPCAddr: s.cfg.ListenGRPC,
		HTTPAddr: s.cfg.ListenHTTP,
		TLS: server.TLS{CertFile: s.cfg.TLS.Cert, KeyFile: s.cfg.TLS.Key, ClientCAFile: s.cfg.TLS.ClientCA,
			ClientCRLFile: s.cfg.TLS.ClientCRL, AllowTLS12: s.cfg.TLS.MinVersion == config.TLS12},
		Access:          s.cfg.Access.Auth(),
		AuditFile:       s.cfg.AuditFile,
		AuditStore:      records,
		Node:            s.cfg.NodeName,
		AuditRequired:   s.cfg.AuditRequired,
		AuditFailed:     s.telemetry.AuditFailed,
		Limits:          settings.Limits,
		Refused:         func(ctx context.Context, r server.Refusal) { s.telemetry.Refused(ctx, string(r)) },
		ShutdownTimeout: settings.ShutdownTimeout,
		Drain:           s.drain,
		Logger:          s.log,
	})
	if err != nil {
		return err
	}
	if err := srv.Open(ctx); err != nil {
		return s.whichPort(err)
	}
	s.closers.later("server", srv.Close)
	s.server = srv
	return nil
}

// callerLimits returns the limits of callers. Connections leave at least as many files to everything else.
func (s *Service) callerLimits(ctx context.Context, cfg *config.Config) bounds.Limits {
	l := cfg.Limits.Server()
	files, err := disk.Files()
	if err != nil {
		return l // the system has no limit that it tells of
	}
	if most := max(1, files/2); l.Connections > most {
		s.log.WarnContext(ctx, "fewer connections than configured, because the process may open too few files; raise its "+
			"limit of open files (ulimit -n, LimitNOFILE)",
			"connections", most, "configured", l.Connections, "open_files", files)
		l.Connections = most
	}
	return l
}

// served are clusters as the server takes them.
func served(clusters []*managed) []server.Cluster {
	all := make([]server.Cluster, len(clusters))
	for i, c := range clusters {
		all[i] = server.Cluster{View: c, Operations: c, Facts: c, Journal: c, Use: c.uses.Use}
	}
	return all
}

// whichPort adds to the error of a listener the flag of its address.
func (s *Service) whichPort(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "listen" || op.Addr == nil {
		return err
	}
	flag := "--listen-http"
	if addr, rerr := net.ResolveTCPAddr("tcp", s.cfg.ListenGRPC); rerr == nil && addr.String() == op.Addr.String() {
		flag = "--listen-grpc"
	}
	return fmt.Errorf("%w (%s sets another address)", err, flag)
}

// GRPCAddr returns the address that gRPC listens on, after Open.
func (s *Service) GRPCAddr() string { return s.server.GRPCAddr() }

// HTTPAddr returns the address that HTTP listens on, after Open.
func (s *Service) HTTPAddr() string { return s.server.HTTPAddr() }

// Run serves until ctx is done, and then stops everything in order: readiness, leadership and loops, HTTP, gRPC, the
// connections, telemetry. It returns nil when it was asked to stop.
func (s *Service) Run(ctx context.Context) error {
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopLoops = stop
	for _, c := range s.clusters {
		ctx, cancel := context.WithCancel(loops)
		c.stop = cancel
		c.run(ctx, nil)
	}
	s.loops.Go(func() { s.watchReloads(loops) })
	err := s.server.Run(ctx)
	s.close(ctx)
	return err
}

// drain ends the loops, and with them the leadership, while calls are still served.
func (s *Service) drain(ctx context.Context) {
	s.stopLoops()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.waitForLoops()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.log.WarnContext(ctx, "a reconcile does not end; calls are ended meanwhile, and the process ends after it")
	}
}

// waitForLoops waits for all loops, after they were told to stop, however long: what they use is closed afterwards. No
// cluster comes or goes after the reloads have ended.
func (s *Service) waitForLoops() {
	s.loops.Wait()
	for _, c := range s.clusters {
		c.loops.Wait()
	}
}

// close closes everything that was opened, the last first.
func (s *Service) close(ctx context.Context) {
	s.stopLoops()
	s.waitForLoops()
	for i := len(s.closers) - 1; i >= 0 && s.closers[i].name == "server"; i-- {
		only := s.closers[i:]
		only.close(ctx, s.log)
		s.closers = s.closers[:i]
	}
	s.retired.Wait()
	for _, c := range slices.Backward(s.clusters) {
		c.following.close(ctx, s.log)
		c.closers.close(ctx, s.log)
	}
	s.clusters = nil
	s.closers.close(ctx, s.log)
}
