package server

import (
	"net/http"

	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/console"
)

func (s *Server) addConsole(mux *http.ServeMux, v1 *api) {
	needed := func(a *auth.Access) auth.Role { return a.Console }
	mux.Handle("GET /{$}", s.page(needed, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if console.Wanted(r) {
			console.ServeIndex(w, r)
			return
		}
		s.serveIndex(w, r)
	}))
	mux.Handle("GET "+console.Root, s.page(needed, false, console.ServePart))
	mux.Handle("GET "+console.Root+"download", s.page(needed, false, console.Download(v1).ServeHTTP))
	looks := func(a *auth.Access) auth.Role { return max(a.Console, auth.Viewer) }
	mux.Handle("GET "+console.Root+"service", s.page(looks, false, func(w http.ResponseWriter, r *http.Request) {
		setPrivate(w.Header())
		if err := v1.guard.check(r); err != nil {
			writeRefusal(w, err)
			return
		}
		console.Service{Version: s.cfg.Version, GRPC: s.GRPCAddr(), TLS: s.cfg.TLS.Enabled(), TraceURL: s.cfg.TraceURL}.Serve(w)
	}))
}

// setPrivate keeps an answer out of caches, and away from pages of other sites.
func setPrivate(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
