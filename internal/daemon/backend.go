package daemon

import (
	"net/url"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot/retention"
	"github.com/snapshotd/snapshotd/storage"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// openBackend builds the adapter of a backend. Nothing is dialled, and no directory is made: a directory that a person
// named and that is missing is not mounted.
func (s *Service) openBackend(cfg config.Backend, uploads driver.Limiter, opened *closers) (repository.Backend, error) {
	b, err := storage.New(storage.Config{Name: cfg.On(s.cfg.NodeName), URL: cfg.URL.Reveal(), UploadLimit: uploads})
	if err != nil {
		return nil, err
	}
	opened.later("backend "+cfg.Name, b.Close)
	return b, nil
}

// openFallback opens the directory of this replica for a snapshot that no backend took.
func (s *Service) openFallback(cluster string, opened *closers) (repository.Backend, error) {
	path, err := s.dir.fallback(cluster)
	if err != nil {
		return nil, err
	}
	place := url.URL{Scheme: "file", Path: path}
	b, err := storage.New(storage.Config{Name: "fallback", URL: place.String()})
	if err != nil {
		return nil, err
	}
	opened.later("upload fallback of cluster "+cluster, b.Close)
	return b, nil
}

// retentions returns the retention of each backend: its own, or the cluster's.
func retentions(cfg *config.Cluster, node string) map[string]retention.Rules {
	all := make(map[string]retention.Rules, len(cfg.Backends))
	for _, b := range cfg.Backends {
		r := cfg.Retention
		if b.Retention != nil {
			r = *b.Retention
		}
		zone, err := time.LoadLocation(r.TimeZone) // "" is UTC
		if err != nil {
			zone = time.UTC // it was checked when the configuration was read
		}
		all[b.On(node)] = retention.Rules{
			KeepLast: r.KeepLast, KeepHourly: r.KeepHourly, KeepDaily: r.KeepDaily, KeepWeekly: r.KeepWeekly,
			KeepMonthly: r.KeepMonthly, KeepYearly: r.KeepYearly, KeepWithin: r.KeepWithin, RecoveryWindow: r.RecoveryWindow,
			MaxTotalBytes: int64(r.MaxTotalBytes), MinKeep: r.MinKeep, OnDemand: r.OnDemand, Adopted: r.Adopted, TimeZone: zone,
		}
	}
	return all
}
