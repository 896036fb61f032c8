package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/audit"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/snapshot"
)

// maxArguments is how many bytes of a request's JSON are recorded. No valid request of a usual size has more.
const maxArguments = 8 << 10

// audit records a call that is over, if the rule book wants it to be. A caller that is not known is in the log and the
// metrics alone: anyone could fill the disk.
func (s *Server) audit(ctx context.Context, c *call, st *status.Status, d time.Duration) {
	op, _ := auth.OperationOf(c.operation())
	if c.name() == "" || !op.Audited || c.principal == nil {
		return
	}
	r := recordOf(ctx, c, d)
	r.Code, r.Reason = codeName(st.Code()), string(wire.DetailsOf(st.Err()).Reason)
	r.Snapshot = cmp.Or(r.Snapshot, wire.DetailsOf(st.Err()).Snapshot.GetName())
	attrs := []slog.Attr{
		slog.String("operation", r.Operation), slog.String("role", r.Role),
		slog.String("cluster", strings.Join(c.clusters, ",")), slog.String("snapshot", r.Snapshot),
		slog.String("arguments", string(r.Arguments)), slog.String("code", r.Code), slog.String("reason", r.Reason),
		slog.String("peer", r.Peer), slog.String("via", r.Via), slog.Duration("duration", d),
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "audit", attrs...)
	if err := errors.Join(s.trail.Append(r), s.objects.Append(r)); err != nil {
		s.log.ErrorContext(ctx, "call is not among the audit records; its record is in the log", "error", err)
		s.auditFailed(ctx)
	}
}

// auditBegin records a call before it begins, where each call must be recorded. A call whose record cannot be written
// is refused then.
func (s *Server) auditBegin(ctx context.Context, c *call) error {
	op, _ := auth.OperationOf(c.operation())
	if !s.cfg.AuditRequired || !op.Audited {
		return nil
	}
	r := recordOf(ctx, c, 0)
	r.Code = audit.Begun
	err := s.trail.Append(r)
	if err == nil {
		err = s.objects.Store(ctx, r)
	}
	if err == nil {
		return nil
	}
	s.auditFailed(ctx)
	verb := strings.ToLower(r.Operation)
	return snapshot.ReasonAuditUnavailable.New("%s was not begun, because it cannot be recorded", verb).
		Because(err).Advise("repair what keeps the audit records; audit_required in the service's configuration demands them")
}

// auditFailed counts a record that could not be added, or an attempt to store some.
func (s *Server) auditFailed(ctx context.Context) {
	if s.cfg.AuditFailed != nil {
		s.cfg.AuditFailed(ctx)
	}
}

// newObjects returns the records in the store; nil without a store.
func (s *Server) newObjects() *audit.Objects {
	return audit.NewObjects(audit.ObjectsConfig{Store: s.cfg.AuditStore, Node: s.cfg.Node, Fail: func(err error) {
		s.log.Error("audit records are not stored yet; they are in the log", "error", err)
		s.auditFailed(context.Background())
	}})
}

func recordOf(ctx context.Context, c *call, d time.Duration) *audit.Record {
	r := &audit.Record{
		Time: time.Now().UTC(), Seconds: d.Seconds(), Operation: c.operation(), Kind: string(c.principal.Kind),
		Principal: c.principal.Name, TokenID: c.principal.ID, Role: auth.None.String(),
		Snapshot: cmp.Or(snapshotOf(c.request), snapshotOf(c.response)),
	}
	r.Peer, r.Via = callerOf(ctx)
	switch {
	case len(c.clusters) > 0:
		r.Cluster, r.Role = c.clusters[0], c.principal.Role(c.clusters[0]).String()
		if len(c.clusters) > 1 {
			r.Cluster, r.Clusters = "", c.clusters
		}
	default: // one that does not exist, or that the caller may not see
		r.Cluster = clusterOf(c.request)
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.TraceID = sc.TraceID().String()
	}
	if m, ok := c.request.(proto.Message); ok {
		r.Arguments = argumentsOf(m)
	}
	return r
}

// codeName returns the name of a code as the API has it, such as PERMISSION_DENIED.
func codeName(code codes.Code) string {
	var b strings.Builder
	for i, c := range code.String() {
		if i > 0 && c >= 'A' && c <= 'Z' && code != codes.OK {
			b.WriteByte('_')
		}
		b.WriteRune(c)
	}
	return strings.ToUpper(b.String())
}

// argumentsOf returns a request as JSON. No request carries a secret; one that is far too long is cut, and is a string
// then.
func argumentsOf(m proto.Message) json.RawMessage {
	b, err := protojson.Marshal(m)
	if err != nil {
		b = nil // a string that is no UTF-8 does not come this far
	}
	if len(b) > maxArguments {
		b, _ = json.Marshal(strings.ToValidUTF8(string(b[:maxArguments]), "") + "…") // a string cannot fail
	}
	return b
}

// snapshotOf returns the name of the snapshot in a request or response.
func snapshotOf(message any) string {
	switch m := message.(type) {
	case interface{ GetName() string }:
		return m.GetName()
	case interface{ GetSnapshot() *snapshotdv1.Snapshot }:
		return m.GetSnapshot().GetName()
	}
	return ""
}
