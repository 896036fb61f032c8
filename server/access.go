package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/snapshotd/snapshotd/internal/loopback"
	"github.com/snapshotd/snapshotd/internal/wire"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/server/socket"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Refusal is why a caller was refused, as metrics count it.
type Refusal string

// The refusals.
const (
	RefusedHandshake       Refusal = "handshake"       // no connection came about: TLS, or a client certificate
	RefusedUnauthenticated Refusal = "unauthenticated" // it is not known who calls
	RefusedDenied          Refusal = "denied"          // the role is missing
	RefusedConnection      Refusal = "connections"     // too many are open: it gave way to another one, or found no place
	RefusedLimit           Refusal = "limit"           // too much is under way
)

// Refusals are all of them.
var Refusals = []Refusal{
	RefusedHandshake, RefusedUnauthenticated, RefusedDenied, RefusedConnection, RefusedLimit,
}

// isRefusal reports whether an error is one of a caller that may not do something.
func isRefusal(err error) bool {
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonUnauthenticated, snapshot.ReasonRoleMissing:
		return true
	}
	return false
}

// refused counts a refusal.
func (s *Server) refused(ctx context.Context, err error) {
	if s.cfg.Refused == nil {
		return
	}
	switch wire.DetailsOf(err).Reason {
	case snapshot.ReasonUnauthenticated:
		s.cfg.Refused(ctx, RefusedUnauthenticated)
	case snapshot.ReasonRoleMissing:
		s.cfg.Refused(ctx, RefusedDenied)
	case snapshot.ReasonLimitReached:
		s.cfg.Refused(ctx, RefusedLimit)
	}
}

func (s *Server) handshakeFailed() { s.count(RefusedHandshake) }
func (s *Server) loginFailed()     { s.count(RefusedUnauthenticated) }

// count counts a connection that was refused.
func (s *Server) count(r Refusal) {
	if s.cfg.Refused != nil {
		s.cfg.Refused(context.Background(), r)
	}
}

// callers are the callers of the HTTP requests under way. Their calls go through the process's own connection, which
// carries the key of an entry here, and never what a client has sent as metadata.
type callers struct{ byKey sync.Map }

type callerKey struct{}

// callerMetadata is the metadata with such a key. It is looked at on the process's own connections alone.
const callerMetadata = "snapshotd-caller"

// add notes a caller until forget is called.
func (c *callers) add(ctx context.Context, caller auth.Caller) (with context.Context, forget func()) {
	key := rand.Text()
	c.byKey.Store(key, caller)
	return context.WithValue(ctx, callerKey{}, key), func() { c.byKey.Delete(key) }
}

// find returns the caller of a call over the process's own connection; nobody when it is not known.
func (c *callers) find(ctx context.Context) auth.Caller {
	if keys := metadata.ValueFromIncomingContext(ctx, callerMetadata); len(keys) == 1 {
		if caller, ok := c.byKey.Load(keys[0]); ok {
			return caller.(auth.Caller) // nothing else is in the map
		}
	}
	return auth.Caller{}
}

// callerOfRPC returns what is known of the caller of an RPC.
func (s *Server) callerOfRPC(ctx context.Context) auth.Caller {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return auth.Caller{}
	}
	if _, own := p.Addr.(ownAddr); own {
		return s.callers.find(ctx)
	}
	c := auth.Caller{Local: loopback.Is(p.Addr.String())}
	if a, ok := limits.Unwrap(p.Addr).(socket.Addr); ok {
		c.User = &auth.User{UID: a.User.UID, Name: a.User.Name}
	}
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.VerifiedChains) > 0 {
		c.Certificates = info.State.PeerCertificates
	}
	c.Token, c.Malformed = bearer(metadata.ValueFromIncomingContext(ctx, "authorization"))
	return c
}

// callerOfRequest returns what is known of the caller of an HTTP request.
func (s *Server) callerOfRequest(r *http.Request) auth.Caller {
	c := auth.Caller{Local: loopback.Is(r.RemoteAddr), Session: s.sessions.Of(r)}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		c.Certificates = r.TLS.PeerCertificates
	}
	c.Token, c.Malformed = bearer(r.Header.Values("Authorization"))
	return c
}

// bearer returns the token in authorization headers.
func bearer(headers []string) (token string, malformed bool) {
	if len(headers) == 0 {
		return "", false
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	token = strings.TrimSpace(token)
	if len(headers) > 1 || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", true
	}
	return token, false
}

// call is a call under way.
type call struct {
	method    string // full name
	stream    bool
	end       context.CancelCauseFunc
	principal *auth.Principal
	caller    auth.Caller
	request   any      // its message; nil until it has been read
	response  any      // of a call that is no stream; nil until it has one
	clusters  []string // that it is about

	served  []Cluster       // when it was allowed; nil before
	changed <-chan struct{} // closed when others are served
}

type callKey struct{}

// allowedOf returns those of the clusters that were served when the call of ctx was allowed. About one that has come
// since, perhaps while the record of the call was stored, nobody has decided.
func allowedOf(ctx context.Context, clusters []Cluster) []Cluster {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok || len(clusters) == 0 {
		return nil
	}
	if len(c.served) == len(clusters) && &c.served[0] == &clusters[0] {
		return clusters // nothing has changed
	}
	decided := map[string]bool{}
	for _, s := range c.served {
		decided[s.Name()] = true
	}
	return slices.DeleteFunc(slices.Clone(clusters), func(s Cluster) bool { return !decided[s.Name()] })
}

// changedSince returns a channel that is closed when other clusters are served than when the call of ctx was allowed.
func changedSince(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(callKey{}).(*call)
	return c.changed
}

// name returns the name of an RPC of ours, or "".
func (c *call) name() string { return nameOf(c.method) }

// operation returns the name of the call's operation in the rule book.
func (c *call) operation() string {
	if req, ok := c.request.(*snapshotdv1.UpdateRequest); ok && !req.GetSnapshot().GetPinned() &&
		slices.Contains(req.GetUpdateMask().GetPaths(), "pinned") {
		return auth.Unpin
	}
	if req, ok := c.request.(*snapshotdv1.ReconcileRequest); ok && len(req.GetRetireNodes()) > 0 {
		return auth.Retire
	}
	return c.name()
}

// admit finds out who calls. The context that it returns carries the principal.
func (s *Server) admit(ctx context.Context, c *call) (context.Context, error) {
	if c.name() == "" {
		return ctx, s.admitOther(ctx, c)
	}
	c.caller = s.callerOfRPC(ctx)
	var err error
	if c.principal, err = s.auth.Authenticate(c.caller); err != nil {
		return ctx, err
	}
	if p, ok := peer.FromContext(ctx); ok {
		limits.Known(p.Addr)
	}
	return auth.NewContext(ctx, c.principal), nil
}

// startCall counts a call among those under way, until end is called.
func (s *Server) startCall(ctx context.Context, c *call) (end func(), err error) {
	who, _ := callerOf(ctx)
	if host, _, err := net.SplitHostPort(who); err == nil {
		who = host
	}
	// Callers that show nothing are told apart by their addresses.
	if p := c.principal; p != nil && p.Name != "" {
		who = p.String()
	}
	kind := limits.Short
	switch {
	case c.stream && c.name() == "" && c.principal == nil: // those who are known do not share the places of strangers
		kind = limits.Open
	case c.stream:
		kind = limits.Stream
	}
	return s.under.Begin(cmp.Or(who, "the caller"), kind)
}

// admitOther decides about health and reflection.
func (s *Server) admitOther(ctx context.Context, c *call) error {
	access := s.auth.Access()
	if access == nil {
		return nil
	}
	need := access.Reflection
	if strings.HasPrefix(c.method, "/"+healthpb.Health_ServiceDesc.ServiceName+"/") {
		need = access.Health
	}
	caller := s.callerOfRPC(ctx)
	p, err := s.mayPage(caller, need, false)
	if p == nil && err == nil && c.stream {
		p, _ = s.auth.Authenticate(caller) // it may be a stranger
	}
	c.principal = p
	return err
}

// mayPage decides about what belongs to no cluster. It needs a role on any of the clusters, or, because it shows facts
// about all, on every one.
func (s *Server) mayPage(caller auth.Caller, need auth.Role, every bool) (*auth.Principal, error) {
	if need == auth.None {
		return nil, nil
	}
	p, err := s.auth.Authenticate(caller)
	if err != nil {
		return nil, err
	}
	has := func(c Cluster) bool { return p.Role(c.Name()) >= need }
	switch {
	case need == auth.Nobody:
		return p, snapshot.ReasonRoleMissing.New("it is closed").Advise("access in the service's configuration can open it")
	case every && slices.ContainsFunc(s.fleet.all(), func(c Cluster) bool { return !has(c) }):
		return p, snapshot.ReasonRoleMissing.New("it needs the role %s on all clusters, and %s has it not", need, p)
	case !every && !slices.ContainsFunc(s.fleet.all(), has):
		return p, snapshot.ReasonRoleMissing.New("it needs the role %s, and %s has it on no cluster", need, p)
	}
	return p, nil
}

// allow decides about a call whose request has been read.
func (s *Server) allow(ctx context.Context, c *call, request any) error {
	c.request = request
	if c.name() == "" {
		return s.admitOther(ctx, c) // each message of a reflection, which may go on for long
	}
	c.served, c.changed = s.fleet.followed()
	c.clusters = c.about()
	if err := s.may(c, c.principal); err != nil {
		return err
	}
	return s.auditBegin(ctx, c)
}

// about returns the clusters that a request is about: the one that it names, or all that its caller may see. One that
// the caller may not see is none, as if it did not exist.
func (c *call) about() []string {
	seen := visible(c.principal, c.served)
	name := clusterOf(c.request)
	var about []string
	for _, cl := range seen {
		if name == "" || name == cl.Name() {
			about = append(about, cl.Name())
		}
	}
	return about
}

// clusterOf returns the name of the cluster in a request.
func clusterOf(request any) string {
	switch req := request.(type) {
	case *snapshotdv1.UpdateRequest:
		return req.GetSnapshot().GetCluster()
	case interface{ GetCluster() string }:
		return req.GetCluster()
	}
	return ""
}

// may returns why a principal may not make a call.
func (s *Server) may(c *call, p *auth.Principal) error {
	op, _ := auth.OperationOf(c.operation())
	if op.Needs == auth.None {
		return nil
	}
	verb := strings.ToLower(c.operation())
	if len(visible(p, s.fleet.all())) == 0 {
		return snapshot.ReasonRoleMissing.New("%s needs the role %s, and %s has none", verb, op.Needs, p).
			Advise("rules of access in the service's configuration give roles")
	}
	for _, name := range c.clusters {
		have := p.Role(name)
		if have >= op.Needs {
			continue
		}
		err := snapshot.ReasonRoleMissing.New("%s needs the role %s on cluster %q, and %s is %s there", verb, op.Needs, name,
			p, have)
		if clusterOf(c.request) == "" && len(c.clusters) > 1 {
			return err.Advise("name the cluster that is meant, or ask for the role")
		}
		return err.Advise("rules of access in the service's configuration give roles")
	}
	return nil
}

// allowedStream is a stream with a context of ours, whose caller must be allowed to make its request.
type allowedStream struct {
	grpc.ServerStream
	ctx     context.Context
	allow   func(request any) error
	stall   time.Duration
	stalled chan struct{} // has one when a message was not taken for so long
}

// Context implements [grpc.ServerStream].
func (s *allowedStream) Context() context.Context { return s.ctx }

// RecvMsg implements [grpc.ServerStream].
func (s *allowedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.allow(m)
}

// SendMsg implements [grpc.ServerStream]. It sends nothing once the call has been ended: the library knows only the
// caller's context.
func (s *allowedStream) SendMsg(m any) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	defer time.AfterFunc(s.stall, func() {
		select {
		case s.stalled <- struct{}{}:
		default: // it is known
		}
	}).Stop()
	return s.ServerStream.SendMsg(m)
}

// keepAllowed ends a stream as soon as its caller may not have it any more: its certificate or token was revoked or has
// expired, or the rules have changed.
func (s *Server) keepAllowed(ctx context.Context, c *call) {
	for {
		changed := s.auth.Changed()
		p, err := s.auth.Authenticate(c.caller)
		if err == nil {
			err = s.may(c, p)
		}
		if err != nil {
			c.end(err)
			return
		}
		select {
		case <-changed:
		case <-expiry(p.Until):
		case <-ctx.Done():
			return
		}
	}
}

// expiry returns a channel that has something at a time; it never has for the zero time.
func expiry(t time.Time) <-chan time.Time {
	if t.IsZero() {
		return nil
	}
	return time.After(time.Until(t))
}

// handshakes counts failed handshakes by their lines in the log of the HTTP server, which tells of them in no other
// way.
type handshakes struct {
	slog.Handler
	failed func()
}

// Handle implements [slog.Handler].
func (h handshakes) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "http: TLS handshake error") {
		h.failed()
	}
	return h.Handler.Handle(ctx, r)
}
