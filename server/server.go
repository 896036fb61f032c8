package server

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Defaults of a [Config].
const (
	DefaultGRPCAddr = "127.0.0.1:7379"
	DefaultHTTPAddr = "127.0.0.1:7380"
	// DefaultShutdownTimeout is how long calls may go on after the service was told to stop. It leaves some of the 30 seconds
	// of Kubernetes to what comes after.
	DefaultShutdownTimeout = 20 * time.Second
	// DefaultStallTimeout is how long a caller may leave what is sent to it without taking it.
	DefaultStallTimeout = time.Minute
)

// cleanupTimeout is what calls that were cancelled are given to clean up and answer. A save needs it all only where
// neither its backend nor its catalog answers.
const cleanupTimeout = 20 * time.Second

// Cluster is what the server needs of a cluster of the domain.
type Cluster interface {
	Name() string
	BackendNames() []string
	// Save may return a snapshot and an error: what exists in spite of the error.
	Save(ctx context.Context, req snapshot.SaveRequest) (snapshot.SaveResult, error)
	Reconcile(ctx context.Context, req snapshot.ReconcileRequest) ([]snapshot.BackendReport, error)
	Get(ctx context.Context, name string) (*snapshot.Record, error)
	List(ctx context.Context, q snapshot.Query) (snapshot.Page, error)
	// Update may return a record and an error: what was changed in spite of it.
	Update(ctx context.Context, req snapshot.UpdateRequest) (*snapshot.Record, error)
	// Delete may return a record and an error: what is left.
	Delete(ctx context.Context, req snapshot.DeleteRequest) (*snapshot.Record, error)
	// Prune may return decisions and an error: what was done before it.
	Prune(ctx context.Context, req snapshot.PruneRequest) ([]snapshot.Decision, error)
	// Follow yields what the catalog says has happened after a position; after none from now on. It ends with an error.
	Follow(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error]
	// Verify returns a record with the verdict, also beside the error that a copy is damaged.
	Verify(ctx context.Context, req snapshot.VerifyRequest) (*snapshot.Record, error)
	// Download opens a snapshot for reading; the caller closes it.
	Download(ctx context.Context, req snapshot.DownloadRequest) (*snapshot.Download, error)
}

// Config of the server. Zero values of the optional fields mean the defaults.
type Config struct {
	Clusters []Cluster        // at least one; their order is kept wherever they are listed
	Events   *snapshot.Events // what Watch shows

	Version         string                // optional; shown at /
	Metrics         http.Handler          // optional; serves /metrics
	GRPCAddr        string                // optional; DefaultGRPCAddr
	HTTPAddr        string                // optional; DefaultHTTPAddr
	TLS             TLS                   // optional; without it both ports are plaintext
	ShutdownTimeout time.Duration         // optional; DefaultShutdownTimeout
	StallTimeout    time.Duration         // optional; DefaultStallTimeout. What is read for a caller that takes nothing is closed then
	Drain           func(context.Context) // optional; called on the way down, while calls are still served: ends schedules and leadership
	Logger          *slog.Logger          // optional
}

// Server serves the API. It goes through its life once: New, Open, Run, Close.
type Server struct {
	cfg    Config
	log    *slog.Logger
	health *health.Server
	phase  phase

	// Calls and streams are under these contexts, too. Streams end as soon as the server is told to stop: they would not
	// end by themselves.
	calls, streams             context.Context
	cancelCalls, cancelStreams context.CancelCauseFunc

	grpc         *grpc.Server
	http         *http.Server
	grpcListener net.Listener
	httpListener net.Listener
	inProcess    inProcess // what comes over HTTP goes on to gRPC here
	conn         *grpc.ClientConn

	closing   chan struct{} // closed by Close
	closeOnce sync.Once
	mu        sync.Mutex
	done      chan struct{} // closed when Run has returned; nil while it was not called
}

// New returns a server. It does no I/O.
func New(cfg Config) (*Server, error) {
	if len(cfg.Clusters) == 0 || cfg.Events == nil {
		return nil, errors.New("make server: at least one cluster and the events are needed")
	}
	seen := make(map[string]bool)
	for _, c := range cfg.Clusters {
		if seen[c.Name()] {
			return nil, fmt.Errorf("make server: there are two clusters named %q", c.Name())
		}
		seen[c.Name()] = true
	}
	if err := cfg.TLS.validate(); err != nil {
		return nil, fmt.Errorf("make server: %w", err)
	}
	setDefault(&cfg.GRPCAddr, DefaultGRPCAddr)
	setDefault(&cfg.HTTPAddr, DefaultHTTPAddr)
	setDefault(&cfg.ShutdownTimeout, DefaultShutdownTimeout)
	setDefault(&cfg.StallTimeout, DefaultStallTimeout)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, health: newHealth(), closing: make(chan struct{})}
	s.calls, s.cancelCalls = context.WithCancelCause(context.Background())
	s.streams, s.cancelStreams = context.WithCancelCause(s.calls)
	return s, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Open reads the certificate and listens, so that the addresses are known. Nothing is answered before Run.
func (s *Server) Open(ctx context.Context) error {
	certs, err := openCertificates(s.cfg.TLS, s.log)
	if err != nil {
		return fmt.Errorf("open server: %w", err)
	}
	var lc net.ListenConfig
	if s.grpcListener, err = lc.Listen(ctx, "tcp", s.cfg.GRPCAddr); err != nil {
		return fmt.Errorf("open server: listen for gRPC: %w", err)
	}
	if s.httpListener, err = lc.Listen(ctx, "tcp", s.cfg.HTTPAddr); err != nil {
		return errors.Join(fmt.Errorf("open server: listen for HTTP: %w", err), s.grpcListener.Close())
	}
	s.inProcess = newInProcess()
	if s.conn, err = s.inProcess.dial(); err != nil {
		return errors.Join(fmt.Errorf("open server: %w", err), s.grpcListener.Close(), s.httpListener.Close())
	}
	v1, err := newAPI(ctx, s.conn, newGuard(s.cfg.TLS, s.grpcListener.Addr(), s.httpListener.Addr()), s.cfg.StallTimeout)
	if err != nil {
		return errors.Join(fmt.Errorf("open server: %w", err), s.conn.Close(), s.grpcListener.Close(), s.httpListener.Close())
	}
	s.grpc = s.newGRPC(certs)
	s.http = s.newHTTP(certs, v1)
	return nil
}

// GRPCAddr returns the address that gRPC listens on, after Open.
func (s *Server) GRPCAddr() string { return s.grpcListener.Addr().String() }

// HTTPAddr returns the address that HTTP listens on, after Open.
func (s *Server) HTTPAddr() string { return s.httpListener.Addr().String() }
