package server

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

func (s *Server) newHTTP(certs *certificates, v1 *api) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/v1/", v1)
	s.addConsole(mux, v1.guard)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", s.serveReady)
	if s.cfg.Metrics != nil {
		mux.Handle("GET /metrics", s.cfg.Metrics)
	}
	srv := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      s.cfg.StallTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	if certs != nil {
		srv.TLSConfig = certs.httpConfig()
	}
	return srv
}

func (s *Server) serveHTTP() error {
	if s.cfg.TLS.enabled() {
		return s.http.ServeTLS(s.httpListener, "", "")
	}
	return s.http.Serve(s.httpListener)
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

/v1/       the API as JSON: /v1/snapshots, /v1/events, …

gRPC       %s (snapshotd.v1.SnapshotService, health, reflection)
`, s.cfg.Version, s.GRPCAddr()))
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // the client is gone, and nobody can be told
}
