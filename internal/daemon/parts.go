package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// parts are the adapters of a cluster.
type parts struct {
	source    *etcd.Source
	catalog   *catalog.Catalog
	backends  []repository.Backend
	lead      schedule.Campaign
	following *following
}

// openParts builds the adapters of a cluster.
func (s *Service) openParts(
	cfg *config.Cluster, uploads driver.Limiter, log *slog.Logger, opened *closers,
) (parts, error) {
	saved, err := s.openEtcd(cfg.Etcd, opened)
	if err != nil {
		return parts{}, err
	}
	home := saved
	if cfg.Catalog.Separate() {
		if home, err = s.openEtcd(cfg.Catalog.Etcd, opened); err != nil {
			return parts{}, fmt.Errorf("catalog: %w", err)
		}
	}
	records := openCatalog(cfg, home, log, opened)
	p := parts{source: etcd.NewSource(saved, etcd.SourceConfig{Logger: log}), catalog: records, following: &following{}}
	p.lead = func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
		return records.Lead(ctx, s.cfg.NodeName, func(ctx context.Context, term *catalog.Term) {
			p.following.during(ctx, term.ID(), func() { lead(ctx, term) })
		})
	}
	for _, b := range cfg.Backends {
		backend, err := s.openBackend(b, uploads, opened)
		if err != nil {
			return parts{}, fmt.Errorf("backend %q: %w", b.Name, err)
		}
		p.backends = append(p.backends, backend)
	}
	return p, nil
}

// openEtcd builds a connection to an etcd. Files that cannot be read are an error at once; an etcd that does not answer
// is not.
func (s *Service) openEtcd(cfg config.Etcd, opened *closers) (*etcd.Conn, error) {
	secret, err := password(cfg)
	if err != nil {
		return nil, err
	}
	conn, err := etcd.New(etcd.Config{
		Endpoints:        cfg.Endpoints,
		DiscoverySRV:     cfg.DiscoverySRV,
		DiscoverySRVName: cfg.DiscoverySRVName,
		CACert:           cfg.CACert,
		Cert:             cfg.Cert,
		Key:              cfg.Key,
		User:             cfg.User,
		Password:         secret,
	})
	if err != nil {
		return nil, err
	}
	if err := conn.CheckFiles(); err != nil {
		return nil, err
	}
	opened.later("connection to etcd", conn.Close)
	return conn, nil
}
