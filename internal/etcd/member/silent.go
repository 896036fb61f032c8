package member

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Silent is an etcd member that listens nowhere, not even on a socket of this machine: nobody but this process can read
// what is in it.
type Silent struct {
	server *etcdserver.EtcdServer
	failed chan error
	stop   sync.Once
}

// StartSilent starts a member on the data directory of a single member, and waits until it serves. The directory must
// exist. Where etcd would end the process, the error says why.
func StartSilent(ctx context.Context, cfg Config) (*Silent, error) {
	if _, err := os.Stat(cfg.Dir); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	s := &Silent{failed: make(chan error, 1)}
	made := make(chan *etcdserver.EtcdServer, 1)
	go func() {
		defer func() {
			if cause := recover(); cause != nil {
				s.fail(fmt.Errorf("it panicked: %v", cause))
			}
		}()
		server, err := etcdserver.NewServer(s.config(cfg))
		if err != nil {
			s.fail(err)
			return
		}
		server.Start()
		made <- server
	}()
	select {
	case s.server = <-made:
	case err := <-s.failed:
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	}
	if err := s.ready(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Silent) ready(ctx context.Context) error {
	select {
	case <-s.server.ReadyNotify():
		return nil
	case err := <-s.failed:
		return err
	case <-s.server.StopNotify():
		return errors.New("it stopped while it was starting")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// config returns etcd's own defaults. Addresses of a member that nobody reaches say nothing.
func (s *Silent) config(cfg Config) config.ServerConfig {
	std := embed.NewConfig()
	return config.ServerConfig{
		Name: std.Name, DataDir: cfg.Dir, Logger: s.logger(), UnsafeNoFsync: cfg.NoFsync, QuotaBackendBytes: cfg.Quota,
		TickMs: 10, ElectionTicks: 10, // as in [Start]
		SnapshotCount: std.SnapshotCount, SnapshotCatchUpEntries: std.SnapshotCatchUpEntries,
		MaxSnapFiles: std.MaxSnapFiles, MaxWALFiles: std.MaxWalFiles, BackendFreelistType: bolt.FreelistMapType,
		MaxTxnOps: std.MaxTxnOps, MaxRequestBytes: std.MaxRequestBytes, MaxLearners: std.MaxLearners,
		AuthToken: std.AuthToken, BcryptCost: std.BcryptCost, TokenTTL: std.AuthTokenTTL,
		WarningApplyDuration: std.WarningApplyDuration, WarningUnaryRequestDuration: std.WarningUnaryRequestDuration,
		V2Deprecation: std.V2DeprecationEffective(), ServerFeatureGate: std.ServerFeatureGate,
	}
}

// Member returns the server itself.
func (s *Silent) Member() *etcdserver.EtcdServer { return s.server }

// Failed delivers the error for which etcd would have ended the process.
func (s *Silent) Failed() <-chan error { return s.failed }

// Close stops the server and waits for it.
func (s *Silent) Close() { s.stop.Do(s.server.Stop) }

// logger drops all entries but those that would end the process.
func (s *Silent) logger() *zap.Logger {
	return zap.New(zapcore.NewNopCore(), zap.WithFatalHook(s), zap.WithPanicHook(s))
}

// OnWrite implements [zapcore.CheckWriteHook]: the goroutine that wrote must not go on.
func (s *Silent) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	s.fail(err)
	runtime.Goexit()
}

// fail keeps the first error.
func (s *Silent) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}
