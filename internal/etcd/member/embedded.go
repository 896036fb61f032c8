// Package member runs a single-member etcd inside the process, on loopback: for `serve --dev`, and for tests.
package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.uber.org/zap"
)

// Config of a [Server]. Only Dir is needed.
type Config struct {
	Dir     string // of the data; made when missing, used as it is when an earlier server left data in it
	Quota   int64  // of the database in bytes; etcd's default when 0
	NoFsync bool   // a crash of the machine may lose data: for tests
	Bcrypt  uint   // cost of the hashes of passwords; etcd's default when 0
	TLS     *TLS   // of the client port; plain text when nil
}

// TLS names the files of a client port that wants certificates of its clients.
type TLS struct{ Cert, Key, ClientCA string }

// Server is an etcd member.
type Server struct {
	etcd      *embed.Etcd
	endpoints []string

	stop    sync.Once // etcd's own Close may be called once only
	stopped chan struct{}
}

// portTries is how often other free ports are tried when another process takes one between its choice and its use. etcd
// announces the port that it was configured with, so the system cannot choose one (port 0).
const portTries = 10

// Start starts a server and waits until it serves. Its addresses are new ones each time.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("start etcd: its data needs a directory")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	for try := 1; ; try++ {
		s, err := start(ctx, cfg)
		if err == nil {
			return s, nil
		}
		if try == portTries || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
		}
	}
}

func start(ctx context.Context, cfg Config) (*Server, error) {
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	ec := embed.NewConfig()
	if cfg.TLS != nil {
		scheme = "https"
		ec.ClientTLSInfo.CertFile, ec.ClientTLSInfo.KeyFile = cfg.TLS.Cert, cfg.TLS.Key
		ec.ClientTLSInfo.TrustedCAFile, ec.ClientTLSInfo.ClientCertAuth = cfg.TLS.ClientCA, true
	}
	client := url.URL{Scheme: scheme, Host: ports[0]}
	peer := url.URL{Scheme: "http", Host: ports[1]}

	ec.Dir = cfg.Dir
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	ec.TickMs, ec.ElectionMs = 10, 100 // with etcd's defaults, a single member elects itself after half a second
	ec.QuotaBackendBytes = cfg.Quota
	ec.UnsafeNoFsync = cfg.NoFsync
	if cfg.Bcrypt > 0 {
		ec.BcryptCost = cfg.Bcrypt
	}
	ec.ListenClientUrls, ec.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	ec.ListenPeerUrls, ec.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	e, err := embed.StartEtcd(ec)
	if err != nil {
		return nil, err
	}
	s := &Server{etcd: e, endpoints: []string{client.String()}, stopped: make(chan struct{})}
	select {
	case <-e.Server.ReadyNotify():
		return s, nil
	case err = <-e.Err():
	case <-e.Server.StopNotify():
		err = errors.New("it stopped while it was starting")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	e.Close()
	return nil, err
}

// freePorts returns addresses on loopback with free ports.
func freePorts(ctx context.Context, n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// Endpoints returns the client URLs.
func (s *Server) Endpoints() []string { return s.endpoints }

// Member returns the server itself, for facts that no client can read.
func (s *Server) Member() *etcdserver.EtcdServer { return s.etcd.Server }

// Close stops the server and waits for it, as long as ctx lasts. It may be called again, to wait again.
func (s *Server) Close(ctx context.Context) error {
	s.stop.Do(func() {
		go func() {
			defer close(s.stopped)
			s.etcd.Close()
		}()
	})
	select {
	case <-s.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop etcd: %w", context.Cause(ctx))
	}
}
