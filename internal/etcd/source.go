package etcd

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/span"
	"github.com/snapshotd/snapshotd/snapshot"
)

// DefaultStatusTimeout is how long a member may take to report its status; a slower one is skipped.
const DefaultStatusTimeout = 3 * time.Second

// DefaultHashTimeout is how long a member may take to compute its HashKV: it reads its whole database for it. One whose
// disk hangs answers status requests and pings, and this never.
const DefaultHashTimeout = 10 * time.Minute

// openTimeout is how long a member may take to send the first bytes of its snapshot; then the next one is tried.
const openTimeout = 10 * time.Second

// SourceConfig has only optional fields.
type SourceConfig struct {
	StatusTimeout time.Duration // DefaultStatusTimeout
	HashTimeout   time.Duration // DefaultHashTimeout
	Logger        *slog.Logger
}

// Source gives the snapshots of a cluster.
type Source struct {
	conn *Conn
	cfg  SourceConfig
}

var (
	_ cluster.Source     = (*Source)(nil)
	_ cluster.Hasher     = (*Source)(nil)
	_ cluster.Identifier = (*Source)(nil)
)

// NewSource returns a source. It does no I/O.
func NewSource(conn *Conn, cfg SourceConfig) *Source {
	cfg.StatusTimeout = cmp.Or(cfg.StatusTimeout, DefaultStatusTimeout)
	cfg.HashTimeout = cmp.Or(cfg.HashTimeout, DefaultHashTimeout)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Source{conn: conn, cfg: cfg}
}

// Snapshot asks all members for their status and opens the stream of the best one that sends it.
func (s *Source) Snapshot(ctx context.Context) (*cluster.Stream, error) {
	members, ranked, err := s.choose(ctx)
	defer members.close()
	if err != nil {
		return nil, err
	}
	for _, m := range ranked {
		stream, err := s.open(ctx, m)
		if err == nil {
			return stream, nil
		}
		if ctx.Err() != nil {
			return nil, cancelled(ctx)
		}
		m.err = err
		s.cfg.Logger.WarnContext(ctx, "member gives no snapshot; trying the next one",
			"endpoint", m.endpoint.url, "error", s.conn.why(err))
	}
	return nil, s.conn.noMember(members)
}

// choose returns all members, and the usable ones in the order in which to try them. The caller closes them all.
func (s *Source) choose(ctx context.Context) (members memberList, ranked []*member, err error) {
	ctx, choice := span.Start(ctx, "etcd choose member")
	defer func() { choice.End(err) }()
	eps, err := s.conn.endpoints(ctx)
	if err != nil {
		return nil, nil, s.conn.unavailable("find etcd's members", err)
	}
	members = s.ask(ctx, eps)
	if ctx.Err() != nil {
		return members, nil, cancelled(ctx)
	}
	for _, m := range members {
		if m.err != nil {
			choice.AddEvent("member skipped", trace.WithAttributes(
				attribute.String("endpoint", m.endpoint.url), attribute.String("why", s.conn.why(m.err))))
		}
	}
	ranked = rank(members)
	if len(ranked) == 0 {
		return members, nil, s.conn.noMember(members)
	}
	if err := oneCluster(ranked); err != nil {
		return members, nil, snapshot.ReasonEtcdUnavailable.New("the endpoints are not of one cluster").Because(err).
			Advise("give the endpoints of one cluster only").Final()
	}
	choice.SetAttributes(attribute.String("endpoint", ranked[0].endpoint.url), attribute.Bool("leader", ranked[0].leads()))
	return members, ranked, nil
}

// errSlow ends a stream whose first bytes do not arrive.
var errSlow = errors.New("it gave no byte of its snapshot in time")

// open opens the snapshot stream of a member and waits for its first bytes. The stream takes over the connection.
func (s *Source) open(ctx context.Context, m *member) (_ *cluster.Stream, err error) {
	ctx, opened := span.Call(ctx, "etcd snapshot stream", attribute.String("endpoint", m.endpoint.url),
		attribute.String("member", hexID(m.status.GetHeader().GetMemberId())), attribute.Bool("leader", m.leads()))
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			cancel(err)
			opened.End(err)
		}
	}()
	slow := time.AfterFunc(openTimeout, func() { cancel(errSlow) })
	defer slow.Stop()

	r := &reader{
		ctx: ctx, cancel: cancel, span: opened, endpoint: m.endpoint.url, why: s.conn.why, authorized: s.conn.authorized,
	}
	err = s.conn.authorized(ctx, m.conn, func(ctx context.Context) error {
		stream, err := etcdserverpb.NewMaintenanceClient(m.conn).Snapshot(ctx, &etcdserverpb.SnapshotRequest{},
			grpc.ForceCodecV2(blobs))
		if err == nil {
			r.stream, err = stream, stream.RecvMsg(&r.blob) // the first message shows errors of the call
		}
		return err
	})
	if err == nil && !slow.Stop() {
		err = errSlow
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	r.conn, m.conn = m.conn, nil
	return &cluster.Stream{ReadCloser: r, Member: m.describe(), Size: m.status.GetDbSize(), Answers: r.answers}, nil
}

func cancelled(ctx context.Context) error { return snapshot.Cancelled(ctx, "open a snapshot of etcd") }
