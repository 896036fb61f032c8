package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"

	"github.com/snapshotd/snapshotd/server/audit"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/certs"
	"github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/server/oidc"
	"github.com/snapshotd/snapshotd/server/session"
	"github.com/snapshotd/snapshotd/server/socket"
	"github.com/snapshotd/snapshotd/server/status"
)

// Defaults of a [Config].
const (
	// DefaultShutdownTimeout is how long calls may go on after the service was told to stop. It leaves a third of the 30
	// seconds that Kubernetes gives to the steps that follow.
	DefaultShutdownTimeout = 20 * time.Second
	// DefaultStallTimeout is how long a caller may leave data that is sent to it unread.
	DefaultStallTimeout = time.Minute
)

// cleanupTimeout is how long cancelled calls may take to clean up and answer. A save needs all of it only when neither
// its backend nor its catalog answers.
const cleanupTimeout = 20 * time.Second

// Config of the server. Zero values of the optional fields mean the defaults.
type Config struct {
	Clusters []Cluster // at least one; their order is kept wherever they are listed
	Events   *Events   // the events of this replica, for Watch

	Version         string       // optional; shown at /
	TraceURL        string       // optional; where a trace is shown, with {trace_id} in it
	Metrics         http.Handler // optional; serves /metrics
	GRPCAddr        string       // or a socket, unix:///run/s.sock
	HTTPAddr        string
	TLS             certs.Files                    // optional; without it both ports are plaintext
	Access          *auth.Access                   // optional; without it, all that the ports let in may do everything
	Refused         func(context.Context, Refusal) // optional; told of each caller that is refused
	AuditFile       string                         // optional; changing calls and downloads are added to it
	AuditStore      audit.Store                    // optional; the same records become objects in it
	Node            string                         // the name of this replica, in the keys of these objects
	AuditFailed     func(context.Context)          // optional; told of each record that could not be added
	AuditRequired   bool                           // refuse changing calls and downloads that cannot be recorded
	Limits          limits.Limits                  // optional; limits.Defaults in place of zeros
	ShutdownTimeout time.Duration                  // optional; DefaultShutdownTimeout
	StallTimeout    time.Duration                  // optional; DefaultStallTimeout. Downloads are closed then
	Drain           func(context.Context)          // optional; ends schedules and leadership while calls are still served
	Logger          *slog.Logger                   // optional
}

// TLS names the files of the certificate.
type TLS = certs.Files

// Server serves the API. Its methods are called once each, in this order: New, Open, Run, Close.
type Server struct {
	cfg    Config
	log    *slog.Logger
	health *health.Server
	phase  phase

	// The contexts of all calls and of all streams, beside the callers' own. Streams end as soon as the server is told to
	// stop, because they do not end by themselves.
	calls, streams             context.Context
	cancelCalls, cancelStreams context.CancelCauseFunc

	grpc         *grpc.Server // of the port
	inner        *grpc.Server // of inProcess
	http         *http.Server
	grpcListener net.Listener
	httpListener net.Listener
	inProcess    inProcess // hands requests over HTTP on to gRPC
	conn         *grpc.ClientConn
	auth         *auth.Authority
	sessions     *session.Sessions
	callers      callers        // of the requests over HTTP
	handlers     sync.WaitGroup // of streams
	trail        *audit.Trail   // nil when there is none
	objects      *audit.Objects // the same
	gate         *limits.Gate
	under        *limits.Calls // those under way
	downloads    *limits.Downloads
	counts       status.Counts
	reading      chan struct{} // has room for the catalogs that are read at a time
	fleet        fleet         // the clusters that are served
	settings     atomic.Pointer[Settings]

	closing   chan struct{} // closed by Close
	closeOnce sync.Once
	mu        sync.Mutex
	done      chan struct{} // closed when Run has returned; nil before it is called
}

// New returns a server. It does no I/O.
func New(cfg Config) (*Server, error) {
	if cfg.Events == nil {
		return nil, errors.New("make server: the events are needed")
	}
	if err := cfg.TLS.Validate(); err != nil {
		return nil, fmt.Errorf("make server: %w", err)
	}
	cfg.StallTimeout = cmp.Or(cfg.StallTimeout, DefaultStallTimeout)
	cfg.Limits = cfg.Limits.OrDefaults()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, health: newHealth(), closing: make(chan struct{}), reading: make(chan struct{}, maxRead),
	}
	if err := s.SetClusters(cfg.Clusters); err != nil {
		return nil, fmt.Errorf("make server: %w", err)
	}
	s.calls, s.cancelCalls = context.WithCancelCause(context.Background())
	s.streams, s.cancelStreams = context.WithCancelCause(s.calls)
	s.gate = limits.NewGate(cfg.Limits.Connections, func() { s.count(RefusedConnection) })
	s.objects = s.newObjects()
	s.under, s.downloads = limits.NewCalls(cfg.Limits), limits.NewDownloads(cfg.Limits)
	s.Apply(Settings{Limits: cfg.Limits, ShutdownTimeout: cfg.ShutdownTimeout, TraceURL: cfg.TraceURL})
	return s, nil
}

// Open reads the certificate and listens, so that the addresses are known. Nothing is answered before Run.
func (s *Server) Open(ctx context.Context) error {
	own, err := certs.Open(s.cfg.TLS, s.log)
	if err != nil {
		return fmt.Errorf("open server: %w", err)
	}
	s.auth, err = auth.New(auth.Config{
		Access: s.cfg.Access, CRLFile: s.cfg.TLS.ClientCRLFile, Roots: own.Roots, Log: s.log,
		NewVerifier: func(i auth.Issuer) auth.Verifier { return oidc.New(i, s.log) },
	})
	if err != nil {
		return fmt.Errorf("open server: %w", err)
	}
	s.sessions = session.New(session.Config{Authority: s.auth, Log: s.log, Refused: s.loginFailed})
	use, err := s.sessions.ReadKey(s.cfg.Access)
	if err != nil {
		return fmt.Errorf("open server: %w", err)
	}
	use()
	if s.trail, err = audit.Open(s.cfg.AuditFile); err != nil {
		return fmt.Errorf("open server: %w", err)
	}
	if s.grpcListener, err = listen(ctx, s.cfg.GRPCAddr); err != nil {
		return fmt.Errorf("open server: listen for gRPC: %w", err)
	}
	if s.httpListener, err = listen(ctx, s.cfg.HTTPAddr); err != nil {
		return errors.Join(fmt.Errorf("open server: listen for HTTP: %w", err), s.grpcListener.Close())
	}
	s.inProcess = newInProcess()
	if s.conn, err = s.inProcess.dial(); err != nil {
		return errors.Join(fmt.Errorf("open server: %w", err), s.grpcListener.Close(), s.httpListener.Close())
	}
	v1, err := s.newAPI(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("open server: %w", err), s.conn.Close(), s.grpcListener.Close(), s.httpListener.Close())
	}
	s.grpc, s.inner = s.newGRPC(s.portOptions(own)...), s.newGRPC()
	s.http = s.newHTTP(own, v1)
	return nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	if socket.Is(addr) {
		return socket.Listen(ctx, addr)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", addr)
}

// SetAccess replaces the rules of who may do what, also for connections and streams that are open. When it fails,
// nothing has changed: the earlier rules stay in effect, and sessions go on.
func (s *Server) SetAccess(access *auth.Access) error {
	use, err := s.sessions.ReadKey(access)
	if err != nil {
		return err
	}
	if err := s.auth.SetAccess(access); err != nil {
		return err
	}
	use()
	return nil
}

// GRPCAddr returns the address that gRPC listens on, after Open.
func (s *Server) GRPCAddr() string { return s.grpcListener.Addr().String() }

// HTTPAddr returns the address that HTTP listens on, after Open.
func (s *Server) HTTPAddr() string { return s.httpListener.Addr().String() }
