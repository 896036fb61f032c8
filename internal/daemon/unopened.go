package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/status"
)

// unopened is a cluster that is configured and could not be opened. It is served for its verdict alone.
type unopened struct {
	cfg   config.Cluster
	why   error
	since time.Time
}

// unopenedSince returns since when a cluster cannot be opened, for whatever reasons.
func (s *Service) unopenedSince(name string) time.Time {
	for _, u := range s.unopened {
		if u.cfg.Name == name {
			return u.since
		}
	}
	return time.Now()
}

// serve returns the cluster as the server takes it. What is known is what its configuration says.
func (s *Service) serve(ctx context.Context, u unopened) server.Cluster {
	known := status.Known{
		Name: u.cfg.Name, Node: s.cfg.NodeName, Store: storeOf(&u.cfg), NotOpen: u.why, NotOpenSince: u.since,
	}
	var opened closers
	defer opened.close(ctx, s.log)
	for _, b := range u.cfg.Backends {
		at := status.Place{Name: b.On(s.cfg.NodeName), URI: b.URL.String(), URL: b.URL.String(), Free: -1}
		if backend, err := s.openBackend(b, nil, &opened); err == nil {
			at = newPlace(b, backend.Info()).Place
		}
		known.Places = append(known.Places, at)
	}
	return server.Unopened(known)
}

// sameUnopened reports whether two lists have the same clusters, which are not open for the same reasons.
func sameUnopened(a, b []unopened) bool {
	return slices.EqualFunc(a, b, func(a, b unopened) bool {
		return a.cfg.SameButLimits(b.cfg) && a.why.Error() == b.why.Error()
	})
}

// tellUnopened keeps the verdict in the metrics of the clusters that could not be opened, and of no others.
func (s *Service) tellUnopened(ctx context.Context, before []unopened) {
	for _, u := range s.unopened {
		s.telemetry.AddCluster(ctx, u.cfg.Name, nil)
		s.telemetry.Judged(ctx, u.cfg.Name, string(status.Unknown), verdicts)
	}
	for _, u := range before {
		still := func(now unopened) bool { return now.cfg.Name == u.cfg.Name }
		if named(s.clusters, u.cfg.Name) == nil && !slices.ContainsFunc(s.unopened, still) {
			s.telemetry.Forget(u.cfg.Name, "")
		}
	}
}
