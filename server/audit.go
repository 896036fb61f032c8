package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/auth"
)

// maxArguments is how many bytes of a request's JSON are recorded. No valid request of a usual size has more.
const maxArguments = 8 << 10

// auditRecord is one line of the audit file: a call that changes something, or a download, and how it ended.
type auditRecord struct {
	Time      time.Time       `json:"time"` // when it ended
	Seconds   float64         `json:"seconds"`
	Operation string          `json:"operation"`
	Kind      string          `json:"kind"` // of the principal
	Principal string          `json:"principal,omitempty"`
	TokenID   string          `json:"token_id,omitempty"`
	Role      string          `json:"role"` // on the cluster; on the first one, when it is about several
	Cluster   string          `json:"cluster,omitempty"`
	Clusters  []string        `json:"clusters,omitempty"` // when it is about several
	Snapshot  string          `json:"snapshot,omitempty"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	Code      string          `json:"code"`
	Reason    string          `json:"reason,omitempty"`
	TraceID   string          `json:"trace_id,omitempty"`
	Peer      string          `json:"peer"`
	Via       string          `json:"via"`
}

// audit records a call that is over, if the rule book wants it to be. A caller that is not known is in the log and the
// metrics alone: anyone could fill the disk.
func (s *Server) audit(ctx context.Context, c *call, st *status.Status, d time.Duration) {
	op, _ := auth.OperationOf(c.operation())
	if c.name() == "" || !op.Audited || c.principal == nil {
		return
	}
	r := recordOf(ctx, c, st, d)
	attrs := []slog.Attr{
		slog.String("operation", r.Operation), slog.String("role", r.Role),
		slog.String("cluster", strings.Join(c.clusters, ",")), slog.String("snapshot", r.Snapshot),
		slog.String("arguments", string(r.Arguments)), slog.String("code", r.Code), slog.String("reason", r.Reason),
		slog.String("peer", r.Peer), slog.String("via", r.Via), slog.Duration("duration", d),
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "audit", attrs...)
	if s.trail == nil {
		return
	}
	if err := s.trail.append(r); err != nil {
		s.log.ErrorContext(ctx, "call is not in the audit file; its record is in the log", "error", err)
		if s.cfg.AuditFailed != nil {
			s.cfg.AuditFailed(ctx)
		}
	}
}

func recordOf(ctx context.Context, c *call, st *status.Status, d time.Duration) *auditRecord {
	r := &auditRecord{
		Time: time.Now().UTC(), Seconds: d.Seconds(), Operation: c.operation(), Kind: string(c.principal.Kind),
		Principal: c.principal.Name, TokenID: c.principal.ID, Code: codeName(st.Code()),
		Reason: string(wire.DetailsOf(st.Err()).Reason), Role: auth.None.String(),
	}
	r.Snapshot = cmp.Or(snapshotOf(c.request), snapshotOf(c.response), wire.DetailsOf(st.Err()).Snapshot.GetName())
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

// trail is the audit file. Records are only ever added, each with one write. A file that was renamed is left alone, and
// the next record begins a new one: rotation needs no signal.
type trail struct {
	name string

	mu   sync.Mutex
	file *os.File
}

// openTrail opens the audit file; nil when there is none.
func openTrail(name string) (*trail, error) {
	if name == "" {
		return nil, nil
	}
	t := &trail{name: name}
	return t, t.open()
}

// open opens the file, which must not be a link: who can put a link into its directory could have the service write
// elsewhere.
func (t *trail) open() error {
	f, err := os.OpenFile(t.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("open the audit file: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(fmt.Errorf("open the audit file: %s is no file", t.name), err, f.Close())
	}
	t.file = f
	return nil
}

func (t *trail) append(r *auditRecord) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the audit file: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.follow(); err != nil {
		return err
	}
	if _, err := t.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write the audit file: %w", err)
	}
	return nil
}

// follow opens the file anew when its name is another file's by now, or nobody's.
func (t *trail) follow() error {
	if t.file != nil {
		open, err := t.file.Stat()
		named, nerr := os.Lstat(t.name)
		if err == nil && nerr == nil && os.SameFile(open, named) {
			return nil
		}
		_ = t.file.Close() // what was written to it is there
		t.file = nil
	}
	return t.open()
}

func (t *trail) close() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}
