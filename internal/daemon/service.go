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
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/telemetry"
)

// closeTimeout is what each part is given to close once the server has stopped.
const closeTimeout = 5 * time.Second

// Config of a [Service].
type Config struct {
	Config  *config.Config // validated
	Dev     bool           // bring an etcd with data in it, and a directory as backend where there is none
	Version string
	Log     io.Writer

	// Reload asks for the configuration to be read again, by Load. Both may be nil.
	Reload <-chan os.Signal
	Load   func() (*config.Config, error)
}

// Service is everything that `snapshotd serve` runs. It goes through its life once: New, Open, Run.
type Service struct {
	cfg  *config.Config
	conf Config
	read *config.Config // as it was read, limits aside
	log  *slog.Logger

	events    *snapshot.Events
	telemetry *telemetry.Telemetry
	server    *server.Server
	clusters  []*cluster
	closers   []closer // in the order in which they were opened

	loops     sync.WaitGroup
	stopLoops context.CancelFunc
}

type closer struct {
	what  string
	close func(context.Context) error
}

// New returns a service. It does no I/O.
func New(conf Config) (*Service, error) {
	log, err := newLogger(conf.Log, conf.Config.Log)
	if err != nil {
		return nil, err
	}
	return &Service{cfg: conf.Config, conf: conf, read: conf.Config.LimitsAside(), log: log, events: &snapshot.Events{}, stopLoops: func() {}}, nil
}

// Open builds everything and listens, so that the addresses are known. It fails on what only a person can mend: a data
// directory in use, a port that is taken, a file that is missing. That etcd or a backend does not answer is no reason not
// to serve: it is logged, and told to those who ask. What was opened until an error is closed again.
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
	s.log.InfoContext(ctx, "service is starting", "version", s.conf.Version, "node", s.cfg.NodeName, "data_dir", s.cfg.DataDir)
	s.closeLater("data directory", func(context.Context) error { return dir.close() })
	if err := dir.emptySpool(); err != nil {
		return err
	}
	s.boundMemory()
	// What a library prints with the log package becomes a line of this log, in its format.
	slog.SetLogLoggerLevel(slog.LevelWarn)
	slog.SetDefault(s.log)
	s.telemetry, err = telemetry.Start(ctx, telemetry.Config{
		MetricsPrefix: s.cfg.MetricsPrefix, ServiceVersion: s.conf.Version, Node: s.cfg.NodeName, Logger: s.log,
	})
	if err != nil {
		return err
	}
	s.closeLater("telemetry", s.telemetry.Shutdown)
	if s.conf.Dev {
		if err := s.openDev(ctx, dir); err != nil {
			return err
		}
	}
	for i := range s.cfg.Clusters {
		if err := s.openCluster(ctx, &s.cfg.Clusters[i], dir); err != nil {
			return err
		}
	}
	return s.openServer(ctx)
}

func (s *Service) openServer(ctx context.Context) error {
	clusters := make([]server.Cluster, len(s.clusters))
	for i, c := range s.clusters {
		clusters[i] = c.Cluster
	}
	srv, err := server.New(server.Config{
		Clusters:        clusters,
		Events:          s.events,
		Version:         s.conf.Version,
		Metrics:         s.telemetry.MetricsHandler(),
		GRPCAddr:        s.cfg.ListenGRPC,
		HTTPAddr:        s.cfg.ListenHTTP,
		TLS:             server.TLS{CertFile: s.cfg.TLS.Cert, KeyFile: s.cfg.TLS.Key, ClientCAFile: s.cfg.TLS.ClientCA},
		ShutdownTimeout: s.cfg.ShutdownTimeout,
		Drain:           s.drain,
		Logger:          s.log,
	})
	if err != nil {
		return err
	}
	if err := srv.Open(ctx); err != nil {
		return s.whichPort(err)
	}
	s.closeLater("server", srv.Close)
	s.server = srv
	return nil
}

// whichPort adds the flag of an address that cannot be listened on.
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

// Run serves until ctx is done and then brings everything down in order: readiness, leadership and loops, HTTP, gRPC, the
// connections, telemetry. It returns nil when it was told to stop.
func (s *Service) Run(ctx context.Context) error {
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopLoops = stop
	for _, c := range s.clusters {
		c.run(loops, &s.loops)
	}
	s.loops.Go(func() { s.watchReloads(loops) })
	err := s.server.Run(ctx)
	s.close(ctx)
	return err
}

// drain ends the loops and with them leadership, while calls are still served.
func (s *Service) drain(ctx context.Context) {
	s.stopLoops()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.loops.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.log.WarnContext(ctx, "a reconcile does not end; the service stops without waiting for it any longer")
	}
}

func (s *Service) closeLater(what string, f func(context.Context) error) {
	s.closers = append(s.closers, closer{what, f})
}

// close closes what was opened, the last first, also when ctx is done. What does not close goes with the process; it is
// logged, since it says nothing about how the service did.
func (s *Service) close(ctx context.Context) {
	s.stopLoops()
	s.loops.Wait()
	for _, c := range slices.Backward(s.closers) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		if err := c.close(ctx); err != nil {
			s.log.WarnContext(ctx, "close "+c.what, "error", err)
		}
		cancel()
	}
	s.closers = nil
}
