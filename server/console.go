package server

import (
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/console"
)

func (s *Server) addConsole(mux *http.ServeMux, g *guard) {
	needed := func(a *auth.Access) auth.Role { return a.Console }
	mux.Handle("GET /{$}", s.page(needed, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if wantsHTML(r.Header.Values("Accept")) {
			console.ServeIndex(w, r)
			return
		}
		s.serveIndex(w, r)
	}))
	mux.Handle("GET "+console.Root, s.page(needed, false, console.ServePart))
	looks := func(a *auth.Access) auth.Role { return max(a.Console, auth.Viewer) }
	mux.Handle("GET "+console.Root+"overview", s.page(looks, false, func(w http.ResponseWriter, r *http.Request) {
		s.serveOverview(w, r, g) //nolint:contextcheck // it takes the context of r
	}))
}

// wantsHTML reports whether a client names HTML among the types that it accepts, as browsers do; curl names none.
func wantsHTML(accept []string) bool {
	for kind := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		media, params, err := mime.ParseMediaType(kind)
		if err != nil || media != "text/html" {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		return err != nil || q > 0
	}
	return false
}

// serveOverview serves the overview of the console to clients that may call the API.
func (s *Server) serveOverview(w http.ResponseWriter, r *http.Request, g *guard) {
	setPrivate(w.Header())
	if err := g.check(r); err != nil {
		writeRefusal(w, err)
		return
	}
	ctx, leave, ok := s.enter(w, r)
	if !ok {
		return
	}
	defer leave()
	if r.URL.RawQuery != "" {
		writeRefusal(w, refuse(http.StatusBadRequest, reasonBadRequest, "%.60q takes no query", r.URL.Path))
		return
	}
	b, err := json.Marshal(console.Overview{
		Version: s.cfg.Version, Time: time.Now().UTC(), GRPC: s.GRPCAddr(), TLS: s.cfg.TLS.Enabled(),
		Clusters: s.judgeAll(ctx, s.streams),
	})
	if err != nil {
		http.Error(w, "the overview cannot be encoded: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(append(b, '\n')) // the client is gone, and nobody can be told
}

// setPrivate keeps an answer out of caches, and away from pages of other sites.
func setPrivate(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
