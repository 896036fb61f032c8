package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/telemetry"
)

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
	// The first to be opened, so the last to be closed: nobody else may have the directory while anything here runs.
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
	// Behind the lock: the files of a process that still runs are not touched.
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
	room := &space{free: func() (int64, error) { return repository.Free(s.cfg.DataDir) }}
	t.AddDataDir(room.bytes)
	s.closers.later("telemetry", t.Shutdown)
	s.log = newLogger(s.written, t)
	// Lines that libraries print with the log package go to this log, in its format.
	slog.SetLogLoggerLevel(slog.LevelWarn)
	slog.SetDefault(s.log)
	return nil
}

// openServer builds the server and listens. It is last, so that no caller meets a cluster that is not open.
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
func (s *Service) callerLimits(ctx context.Context, cfg *config.Config) limits.Limits {
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

// serverSettings returns the settings of a configuration as the server takes them.
func (s *Service) serverSettings(ctx context.Context, cfg *config.Config) server.Settings {
	return server.Settings{Limits: s.callerLimits(ctx, cfg), ShutdownTimeout: cfg.ShutdownTimeout, TraceURL: cfg.TraceURL}
}

// served are clusters as the server takes them.
func served(clusters []*managed) []server.Cluster {
	all := make([]server.Cluster, len(clusters))
	for i, c := range clusters {
		all[i] = server.Cluster{View: c, Operations: c, Replicas: c, Journal: c, Use: c.uses.Use}
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
