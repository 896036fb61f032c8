package server_test

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/cluster/downloading"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

// waitTimeout is how long a test waits for something that must happen.
const waitTimeout = 20 * time.Second

// fakeCluster is a cluster whose methods are functions.
type fakeCluster struct {
	name      string
	backends  []string
	facts     facts
	silent    bool // its catalog answers no question; see list
	save      func(context.Context, cluster.SaveRequest) (cluster.SaveResult, error)
	reconcile func(context.Context, cluster.ReconcileRequest) ([]cluster.BackendReport, error)
	get       func(context.Context, string) (*snapshot.Record, error)
	list      func(context.Context, snapshot.Query) (snapshot.Page, error)
	update    func(context.Context, cluster.UpdateRequest) (*snapshot.Record, error)
	remove    func(context.Context, cluster.DeleteRequest) (*snapshot.Record, error)
	prune     func(context.Context, cluster.PruneRequest) ([]cluster.Decision, error)
	follow    func(context.Context, snapshot.Position, func(snapshot.Moment, error) bool)
	verify    func(context.Context, cluster.VerifyRequest) (*snapshot.Record, error)
	download  func(context.Context, cluster.DownloadRequest) (*downloading.Download, error)
}

func (c *fakeCluster) Name() string           { return c.name }
func (c *fakeCluster) BackendNames() []string { return c.backends }

func (c *fakeCluster) Save(ctx context.Context, req cluster.SaveRequest) (cluster.SaveResult, error) {
	return c.save(ctx, req)
}

func (c *fakeCluster) Reconcile(ctx context.Context, req cluster.ReconcileRequest) ([]cluster.BackendReport, error) {
	return c.reconcile(ctx, req)
}

func (c *fakeCluster) Get(ctx context.Context, name string) (*snapshot.Record, error) {
	return c.get(ctx, name)
}

func (c *fakeCluster) List(ctx context.Context, q snapshot.Query) (snapshot.Page, error) {
	return c.list(ctx, q)
}

func (c *fakeCluster) Update(ctx context.Context, req cluster.UpdateRequest) (*snapshot.Record, error) {
	return c.update(ctx, req)
}

func (c *fakeCluster) Delete(ctx context.Context, req cluster.DeleteRequest) (*snapshot.Record, error) {
	return c.remove(ctx, req)
}

func (c *fakeCluster) Prune(ctx context.Context, req cluster.PruneRequest) ([]cluster.Decision, error) {
	return c.prune(ctx, req)
}

// Follow says nothing until the caller goes away, unless the test has it otherwise.
func (c *fakeCluster) Follow(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
	return func(yield func(snapshot.Moment, error) bool) {
		if c.follow == nil {
			<-ctx.Done()
			return
		}
		c.follow(ctx, after, yield)
	}
}

func (c *fakeCluster) Verify(ctx context.Context, req cluster.VerifyRequest) (*snapshot.Record, error) {
	return c.verify(ctx, req)
}

func (c *fakeCluster) Download(ctx context.Context, req cluster.DownloadRequest) (*downloading.Download, error) {
	return c.download(ctx, req)
}

// failing is a cluster whose Get returns err.
func failing(err error) *fakeCluster {
	return &fakeCluster{name: "prod", get: func(context.Context, string) (*snapshot.Record, error) { return nil, err }}
}

// served are clusters as the server takes them.
func served(clusters ...*fakeCluster) []server.Cluster {
	all := make([]server.Cluster, len(clusters))
	for i, c := range clusters {
		all[i] = server.Cluster{View: c, Operations: c, Replicas: c.known(), Journal: c.known()}
	}
	return all
}

// inState returns a snapshot in a state.
func inState(state snapshot.State, s snapshot.Snapshot) *snapshot.Snapshot {
	return snapshot.WithStatus(s, snapshot.Status{State: state})
}

// running is a server that runs until the test ends or stop is called.
type running struct {
	*server.Server
	events *server.Events
	log    *lines
	stop   context.CancelFunc
	done   chan struct{}
	err    error // of Run, once done is closed
}

// run starts a server on free ports.
func run(t *testing.T, cfg server.Config, clusters ...*fakeCluster) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{events: new(server.Events), log: new(lines), stop: cancel, done: make(chan struct{})}
	cfg.Clusters, cfg.Events = served(clusters...), r.events
	cfg.GRPCAddr, cfg.HTTPAddr = cmp.Or(cfg.GRPCAddr, "127.0.0.1:0"), cmp.Or(cfg.HTTPAddr, "127.0.0.1:0")
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	s, err := server.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	if err := s.Open(ctx); err != nil {
		t.Fatalf("Open: %v", err)
	}
	r.Server = s
	go func() {
		defer close(r.done)
		r.err = s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
		if r.err != nil {
			t.Errorf("Run: %v", r.err)
		}
	})
	r.waitReady(t)
	return r
}

// waitReady waits until the server serves: the ports are open before that, and /readyz is 503 for a moment.
func (r *running) waitReady(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(waitTimeout); len(r.log.with("server is ready")) == 0; {
		select {
		case <-r.done:
			t.Fatalf("Run ended before the server was ready: %v", r.err)
		case <-tick.C:
		}
		if time.Now().After(end) {
			t.Fatal("the server does not become ready")
		}
	}
}

// dial connects to the server; plaintext unless options say otherwise.
func (r *running) dial(t *testing.T, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)
	conn, err := grpc.NewClient(r.GRPCAddr(), opts...)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (r *running) client(t *testing.T, opts ...grpc.DialOption) snapshotdv1.SnapshotServiceClient {
	t.Helper()
	return snapshotdv1.NewSnapshotServiceClient(r.dial(t, opts...))
}

// lines is a log that can be read while it is written.
type lines struct{ testenv.Buffer }

// with returns the lines that have s in them.
func (l *lines) with(s string) []string {
	var found []string
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, s) {
			found = append(found, line)
		}
	}
	return found
}

// wait waits until ch is closed or has something.
func wait[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(waitTimeout):
		t.Fatalf("%s did not happen", what)
		panic("unreachable")
	}
}

// checkError checks the code and reason of an error, and that it has exactly one ErrorInfo and nothing twice.
func checkError(t *testing.T, err error, code codes.Code, reason snapshot.Reason) wire.Details {
	t.Helper()
	st, _ := status.FromError(err)
	d := wire.DetailsOf(err)
	if st.Code() != code || d.Reason != reason {
		t.Errorf("error is %v with reason %q, want %v with %q", err, d.Reason, code, reason)
	}
	count := make(map[string]int)
	for _, detail := range st.Details() {
		switch m := detail.(type) {
		case *errdetails.ErrorInfo:
			count["ErrorInfo"]++
			if m.GetDomain() != "snapshotd" {
				t.Errorf("the domain is %q", m.GetDomain())
			}
		case *errdetails.RetryInfo:
			count["RetryInfo"]++
		case *errdetails.BadRequest:
			count["BadRequest"] += len(m.GetFieldViolations())
		case *snapshotdv1.ReconcileResponse, *snapshotdv1.PruneResponse, *snapshotdv1.Snapshot:
			count["Snapshot"]++
		default:
			t.Errorf("unexpected detail %v", detail)
		}
	}
	for kind, n := range count {
		if n != 1 {
			t.Errorf("there are %d of %s", n, kind)
		}
	}
	if count["ErrorInfo"] != 1 {
		t.Errorf("there is no ErrorInfo in %v", st.Details())
	}
	return d
}
