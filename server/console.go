package server

import (
	"net/http"

	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/console"
	"github.com/snapshotd/snapshotd/server/rest"
	"github.com/snapshotd/snapshotd/server/session"
)

func (s *Server) addConsole(mux *http.ServeMux, v1 *rest.API) {
	needed := func(a *auth.Access) auth.Role { return a.Console }
	mux.Handle("GET /{$}", s.page(needed, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if console.Wanted(r) {
			console.ServeIndex(w, r)
			return
		}
		s.serveIndex(w, r)
	}))
	part := s.page(needed, false, console.ServePart)
	mux.Handle("GET "+console.Root, part)
	mux.HandleFunc("GET "+session.Style, func(w http.ResponseWriter, r *http.Request) {
		if s.mayLogIn() {
			console.ServePart(w, r)
			return
		}
		part.ServeHTTP(w, r)
	})
	mux.Handle("GET "+session.LoginPath, s.login(v1, s.sessions.Login))
	mux.Handle("GET "+session.CallbackPath, s.login(v1, s.sessions.Callback))
	mux.Handle("POST "+session.LogoutPath, s.login(v1, s.sessions.Logout))
	mux.Handle("GET "+console.Root+"download", s.page(needed, false, console.Download(v1).ServeHTTP))
	looks := func(a *auth.Access) auth.Role { return max(a.Console, auth.Viewer) }
	mux.Handle("GET "+console.Root+"service", s.page(looks, false, func(w http.ResponseWriter, r *http.Request) {
		if err := v1.Check(r); err != nil {
			rest.Refuse(w, err)
			return
		}
		console.Service{
			Version: s.cfg.Version, GRPC: s.GRPCAddr(), TLS: s.cfg.TLS.Enabled(), ClientCA: s.cfg.TLS.ClientCAFile != "",
			Token: s.needsToken(r), TraceURL: s.settings.Load().TraceURL, Session: s.sessions.Of(r) != nil,
		}.Serve(w)
	}))
}

// needsToken reports whether the caller of a page needs a token for commands: there are tokens, and the caller has come
// without a certificate.
func (s *Server) needsToken(r *http.Request) bool {
	access := s.auth.Access()
	certified := r.TLS != nil && len(r.TLS.PeerCertificates) > 0
	return access != nil && (access.TokensFile != "" || len(access.Issuers) > 0) && !certified
}

// mayLogIn reports whether there is an issuer at which people can log in to the console.
func (s *Server) mayLogIn() bool {
	access := s.auth.Access()
	return access != nil && access.Console != auth.Nobody && len(s.auth.Logins()) > 0
}

// login lets those through who are not known yet, as far as they could use the API after it.
func (s *Server) login(v1 *rest.API, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.mayLogIn() {
			http.NotFound(w, r)
			return
		}
		if err := v1.Check(r); err != nil {
			rest.Refuse(w, err)
			return
		}
		next(w, r)
	})
}
