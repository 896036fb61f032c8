package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/snapshotd/snapshotd/internal/wire"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/certs"
	"github.com/snapshotd/snapshotd/server/compress"
	"github.com/snapshotd/snapshotd/server/console"
	"github.com/snapshotd/snapshotd/server/limits"
	"github.com/snapshotd/snapshotd/server/rest"
	"github.com/snapshotd/snapshotd/server/session"
	"github.com/snapshotd/snapshotd/server/socket"
	"github.com/snapshotd/snapshotd/snapshot"
)

func (s *Server) newHTTP(own *certs.Certificates, v1 *rest.API) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/v1/", v1)
	s.addConsole(mux, v1)
	health := func(a *auth.Access) auth.Role { return a.Health }
	mux.Handle("GET /healthz", s.page(health, false, func(w http.ResponseWriter, _ *http.Request) {
		writeText(w, http.StatusOK, "ok\n")
	}))
	mux.Handle("GET /readyz", s.page(health, false, s.serveReady))
	if s.cfg.Metrics != nil {
		metrics := func(a *auth.Access) auth.Role { return a.Metrics }
		mux.Handle("GET /metrics", s.page(metrics, true, s.cfg.Metrics.ServeHTTP))
	}
	srv := &http.Server{
		Handler:           compress.Handler(console.Private(mux)),
		ReadHeaderTimeout: s.cfg.Limits.HandshakeTimeout, // also of the handshake of TLS
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      s.cfg.StallTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: s.cfg.Limits.StreamsPerConnection},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, addrKey{}, c.RemoteAddr())
		},
		ErrorLog: slog.NewLogLogger(handshakes{s.log.Handler(), s.handshakeFailed}, slog.LevelWarn),
	}
	if own != nil {
		srv.TLSConfig = own.HTTPConfig()
	}
	return srv
}

// newAPI returns the API as JSON over HTTP.
func (s *Server) newAPI(ctx context.Context) (*rest.API, error) {
	return rest.New(ctx, rest.Config{
		Conn: s.conn, GRPCAddr: s.grpcListener.Addr(), HTTPAddr: s.httpListener.Addr(), Stall: s.cfg.StallTimeout,
		NeedsCertificate: func() bool { return s.cfg.TLS.ClientCAFile != "" && s.auth.Access() == nil },
		SocketOnly:       func() bool { return socket.Is(s.cfg.GRPCAddr) && s.auth.Access() == nil },
		Enter:            s.enter,
		Metadata: func(r *http.Request) metadata.MD {
			key, _ := r.Context().Value(callerKey{}).(string)
			return metadata.Pairs(httpPeerKey, r.RemoteAddr, callerMetadata, key)
		},
	})
}

func (s *Server) serveHTTP() error {
	if s.cfg.TLS.Enabled() {
		return s.http.ServeTLS(s.gate.Listener(s.httpListener), "", "")
	}
	return s.http.Serve(s.gate.Listener(s.httpListener))
}

// addrKey is the key of the connection's remote address in the context of a request.
type addrKey struct{}

// known notes that the caller of a request is known, so that its connection keeps its place.
func known(r *http.Request) {
	if addr, ok := r.Context().Value(addrKey{}).(net.Addr); ok {
		limits.Known(addr)
	}
}

// serveReady reports whether requests are accepted. It does not depend on etcd and the backends: without them, the
// service still answers with the facts that it knows.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	code := http.StatusServiceUnavailable
	if s.phase.serving() {
		code = http.StatusOK
	}
	writeText(w, code, s.phase.String()+"\n")
}

func (s *Server) serveIndex(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, fmt.Sprintf(`snapshotd %s

/          the console, in a browser
/metrics   for Prometheus
/healthz   200 while the process lives
/readyz    200 while it serves, 503 while it starts or stops

/v1/       the API as JSON: /v1/clusters, /v1/snapshots, /v1/events, …

gRPC       %s (snapshotd.v1.SnapshotService, snapshotd.v1.ClusterService, health, reflection)
`, s.cfg.Version, s.GRPCAddr()))
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // the client is gone, and nobody can be told
}

// enter finds out who asks for something below /v1/. The context that it returns carries the
// principal, and the key of the caller for the call that the request becomes; leave forgets that. When it is not ok,
// the request has been answered.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) (ctx context.Context, leave func(), ok bool) {
	caller := s.callerOfRequest(r)
	p, err := s.auth.Authenticate(caller)
	if err != nil {
		s.turnAway(w, r, err)
		return nil, nil, false
	}
	known(r)
	ctx, leave = s.callers.add(auth.NewContext(r.Context(), p), caller)
	return ctx, leave, true
}

// page lets those through to a page that may see it.
func (s *Server) page(need func(*auth.Access) auth.Role, every bool, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access := s.auth.Access()
		if access == nil {
			next(w, r)
			return
		}
		if need(access) == auth.Nobody {
			http.NotFound(w, r)
			return
		}
		p, err := s.mayPage(s.callerOfRequest(r), need(access), every)
		if err != nil {
			s.turnAway(w, r, err)
			return
		}
		if p != nil {
			known(r)
		}
		next(w, r)
	})
}

// turnAway answers a request whose caller is not known, or may not make it.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	st := wire.Status(err, "", nil)
	s.log.LogAttrs(r.Context(), levelOf(st.Code()), "request refused", slog.String("path", r.URL.Path),
		slog.String("code", st.Code().String()), slog.String("peer", r.RemoteAddr), slog.String("via", "http"),
		slog.String("error", err.Error()))
	s.refused(r.Context(), st.Err())
	code, text := rest.HTTPCode(st), st.Message()
	if snapshot.ReasonOf(err) == snapshot.ReasonUnauthenticated {
		w.Header().Set("WWW-Authenticate", `Bearer realm="snapshotd"`)
		text = "This page is for those whom the service knows."
	}
	if s.mayLogIn() {
		w.Header().Set(console.LoginHeader, session.LoginPath)
		if r.URL.Path == "/" && console.Wanted(r) {
			s.sessions.Page(w, code, text)
			return
		}
	}
	rest.WriteStatus(w, code, st)
}
