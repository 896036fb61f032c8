package server

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/server/console"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Limits of the cost of the console's verdicts: the catalog may be in the same etcd that is in trouble.
const (
	glanceSnapshots = 500              // read from each catalog
	glanceClusters  = 4                // catalogs that are read at a time
	glanceTimeout   = 10 * time.Second // a catalog that does not answer by then counts as unreadable
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
		s.serveOverview(w, r, g)
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
		Version: s.cfg.Version, Time: time.Now().UTC(), GRPC: s.GRPCAddr(), TLS: s.cfg.TLS.enabled(),
		Clusters: s.glance(ctx, s.streams),
	})
	if err != nil {
		http.Error(w, "the overview cannot be encoded: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(append(b, '\n')) // the client is gone, and nobody can be told
}

// glance reads the catalogs of all clusters that the caller may see, a few at a time, until ctx or stop is done.
func (s *Server) glance(ctx, stop context.Context) []console.Cluster {
	ctx, cancel := context.WithTimeout(ctx, glanceTimeout)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	seen := visible(auth.FromContext(ctx), s.cfg.Clusters)
	all := make([]console.Cluster, len(seen))
	turns := make(chan struct{}, glanceClusters)
	var wg sync.WaitGroup
	for i, c := range seen {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			all[i] = s.glanceAt(ctx, c)
		})
	}
	wg.Wait()
	return all
}

func (s *Server) glanceAt(ctx context.Context, c Cluster) (glance console.Cluster) {
	err := s.guard(ctx, ours+"List", func(ctx context.Context) error {
		page, err := c.List(ctx, snapshot.Query{PageSize: glanceSnapshots})
		if err == nil {
			glance = console.VerdictOn(c.Name(), c.BackendNames(), page.Records, page.NextPageToken == "", time.Now())
		}
		return err
	})
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it did not answer within %s: %w", glanceTimeout, err)
	}
	if err != nil {
		return console.Unreadable(c.Name(), c.BackendNames(), err)
	}
	return glance
}

// setPrivate keeps an answer out of caches, and away from pages of other sites.
func setPrivate(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
