package auth

import (
	"context"
	"log/slog"
	"time"
)

// Kind is how a principal is known.
type Kind string

// The kinds of principals.
const (
	KindCertificate Kind = "certificate" // by a client certificate
	KindToken       Kind = "token"       // by a bearer token
	KindOIDC        Kind = "oidc"        // by a token of an issuer of OpenID Connect
	KindUser        Kind = "user"        // a user of this machine, over a unix socket
	KindLocal       Kind = "local"       // a user of this machine, over loopback
	KindAnyone      Kind = "anyone"      // whoever reaches the port of a service without access rules
)

// Principal is who makes a call.
type Principal struct {
	Kind Kind
	Name string // the SPIFFE id, subject or DNS name of a certificate; the name of a token; a user's name or number;
	// the issuer's name and the subject of an identity
	ID    string    // of a token; empty for other kinds
	Until time.Time // when the certificate or token expires; zero when it does not

	grants []grant
}

// grant is a role on some clusters.
type grant struct {
	role     Role
	clusters []string // patterns; all when there are none
}

// Role returns the role of the principal on a cluster.
func (p *Principal) Role(cluster string) Role {
	role := None
	for _, g := range p.grants {
		if g.role > role && (len(g.clusters) == 0 || anyMatch(g.clusters, cluster, 0)) {
			role = g.role
		}
	}
	return role
}

// String returns the kind and the name.
func (p *Principal) String() string {
	if p.Name == "" {
		return string(p.Kind)
	}
	return string(p.Kind) + " " + p.Name
}

type principalKey struct{}

// NewContext returns a context that carries the principal of a call.
func NewContext(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the principal of a call; nil for what the service does by itself.
func FromContext(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}

// LogHandler returns a handler that adds the principal in a record's context to the record.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if p := FromContext(ctx); p != nil {
		r = r.Clone()
		r.AddAttrs(slog.String("principal", p.String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
