package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A member that is paused or cut off keeps its connections open: pings detect it. gRPC sends at most one in 10 s, and
// etcd allows one in 5 s.
const (
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)

// unaryRetries is how often clientv3 itself repeats a call that did not reach a member. Its default of 100 outlasts the
// deadlines of most callers, which then never see the cause.
const unaryRetries = 4

// readBuffer is that of the connection for questions and answers, which are small. gRPC's default of 32 KiB, and as
// much for writing, would be most of the memory of a cluster at rest, of which one process may have a thousand.
const readBuffer = 4 << 10

// lookupTimeout bounds a lookup for which a call waits that has members already.
const lookupTimeout = time.Second

// Conn is a connection to an etcd cluster. It may be used by several goroutines.
type Conn struct {
	cfg    Config
	tokens tokens      // of calls to one member
	renew  atomic.Bool // the token of client, which keeps its own, is doubted

	turn   chan struct{} // full while the fields below are used
	client *clientv3.Client
	looked time.Time // when its members were looked up
	closed bool
}

// New checks the settings and returns a connection, which is made when it is first used. It does no I/O.
func New(cfg Config) (*Conn, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, DefaultDialTimeout)
	cfg.LookupInterval = cmp.Or(cfg.LookupInterval, DefaultLookupInterval)
	if cfg.LookupSRV == nil {
		cfg.LookupSRV = net.DefaultResolver.LookupSRV
	}
	return &Conn{cfg: cfg, turn: make(chan struct{}, 1)}, nil
}

// CheckFiles reports whether the CA and the client certificate can be read, before etcd is needed.
func (c *Conn) CheckFiles() error {
	_, err := c.files().config()
	return err
}

func (c *Conn) files() files { return files{ca: c.cfg.CACert, cert: c.cfg.Cert, key: c.cfg.Key} }

// Client returns the client of the whole cluster, which all callers share and only Close closes. The first call makes
// it. With a user it logs in, which fails while etcd has no quorum; then the next call tries again. It takes no longer
// than the dial timeout. The error is a [snapshot.Error] with ReasonEtcdUnavailable.
func (c *Conn) Client(ctx context.Context) (*clientv3.Client, error) {
	client, old, err := c.connected(ctx)
	if err != nil {
		return nil, c.unavailable("connect to etcd", err)
	}
	if old {
		c.lookAgain(ctx, client)
	}
	return client, nil
}

// connected returns the client, and whether it is time to look up its members again: each time, one caller is told so.
func (c *Conn) connected(ctx context.Context) (client *clientv3.Client, old bool, err error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	if c.closed {
		return nil, false, errors.New("the connection is closed")
	}
	old = c.cfg.DiscoverySRV != "" && time.Since(c.looked) >= c.cfg.LookupInterval
	if old {
		c.looked = time.Now()
	}
	if c.client != nil {
		return c.client, old, nil
	}
	c.client, err = c.dial(ctx)
	return c.client, false, err
}

// lookAgain tells the client which members SRV records name now. Those of the first time may all be gone one day. A
// name server that does not answer changes nothing.
func (c *Conn) lookAgain(ctx context.Context, client *clientv3.Client) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	eps, err := c.endpoints(ctx)
	if err != nil {
		return
	}
	now := slices.Sorted(slices.Values(urls(eps))) // records come in any order
	if !slices.Equal(now, slices.Sorted(slices.Values(client.Endpoints()))) {
		client.SetEndpoints(now...)
	}
}

func urls(eps []endpoint) []string {
	all := make([]string, len(eps))
	for i, ep := range eps {
		all[i] = ep.url
	}
	return all
}

func (c *Conn) dial(ctx context.Context) (*clientv3.Client, error) {
	eps, err := c.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	unary := []grpc.UnaryClientInterceptor{failFast}
	if c.cfg.User != "" {
		unary = append(unary, c.renewToken)
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end) // the client logs in under the context of its own life
	client, err := clientv3.New(clientv3.Config{
		Endpoints: urls(eps), Username: c.cfg.User, Password: c.cfg.Password,
		DialTimeout: c.cfg.DialTimeout, DialKeepAliveTime: keepAliveTime, DialKeepAliveTimeout: keepAliveTimeout,
		MaxUnaryRetries: unaryRetries, Context: life, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{
			c.transport(eps[0]),
			grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(span.Provider()))),
			grpc.WithChainUnaryInterceptor(unary...), grpc.WithChainStreamInterceptor(untold),
			grpc.WithReadBufferSize(readBuffer),
		},
	})
	if err == nil && !stop() {
		_ = client.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return client, nil
}

// failFast makes a call fail with the reason why no member can be reached. clientv3 3.7 would let it wait until its
// deadline, and its error would be no more than "context deadline exceeded".
func failFast(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	opts = append(opts, grpc.WaitForReady(false))
	return invoke(private{ctx}, method, req, reply, cc, opts...) //nolint:contextcheck // it ends with ctx
}

// untold makes a stream whose deadline etcd is not told.
func untold(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return stream(private{ctx}, desc, cc, method, opts...) //nolint:contextcheck // it ends with ctx
}

// private is a context that ends as another one does, with a deadline that etcd is not told. gRPC sends the time that
// is left as a header, which differs in each call, and HTTP/2 remembers the headers that were sent: with those of the
// renewals of a lease, that were 8 KB for each connection. When the deadline is over, the call is cancelled.
type private struct{ context.Context } //nolint:containedctx // it is a context

// Deadline implements [context.Context].
func (private) Deadline() (time.Time, bool) { return time.Time{}, false }

// transport replaces the credentials of clientv3, because certificates change on disk.
func (c *Conn) transport(ep endpoint) grpc.DialOption {
	if !ep.tls {
		return grpc.WithTransportCredentials(insecure.NewCredentials())
	}
	return grpc.WithTransportCredentials(transport{c.files()})
}

// window is the flow-control window of the stream and of its connection: with gRPC's default, etcd would wait for the
// reader.
const window = 4 << 20

// dialMember returns a connection to one member. It is made when it is first used.
func (c *Conn) dialMember(ep endpoint) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		c.transport(ep),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(span.Provider()))),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepAliveTime, Timeout: keepAliveTimeout}),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	}
	if ep.authority != "" {
		opts = append(opts, grpc.WithAuthority(ep.authority))
	}
	return grpc.NewClient(ep.target, opts...)
}

// Close closes the client. Calls that still use it fail.
func (c *Conn) Close(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("close the connection to etcd: %w", context.Cause(ctx))
	}
	defer func() { <-c.turn }()
	c.closed = true
	if c.client == nil {
		return nil
	}
	err := c.client.Close()
	c.client = nil
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the connection to etcd: %w", err)
	}
	return nil
}

// unavailable is the error of an action on the cluster.
func (c *Conn) unavailable(action string, err error) error {
	return snapshot.ReasonEtcdUnavailable.New("%s", action).Because(errors.New(c.why(err))).Advise("%s", c.hint(err))
}
