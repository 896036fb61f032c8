package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/etcd"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// parts are the adapters of a cluster.
type parts struct {
	source   *etcd.Source
	catalog  *catalog.Catalog
	backends []repository.Backend
}

// openParts builds the adapters of a cluster.
func (s *Service) openParts(
	cfg *config.Cluster, uploads driver.Limiter, log *slog.Logger, opened *closers,
) (parts, error) {
	saved, err := openEtcd(cfg.Etcd, opened)
	if err != nil {
		return parts{}, err
	}
	home := saved
	if cfg.Catalog.Separate() {
		if home, err = openEtcd(cfg.Catalog.Etcd, opened); err != nil {
			return parts{}, fmt.Errorf("catalog: %w", err)
		}
	}
	records := openCatalog(cfg, home, log, opened)
	p := parts{source: etcd.NewSource(saved, etcd.SourceConfig{Logger: log}), catalog: records}
	for _, b := range cfg.Backends {
		backend, err := s.openBackend(b, uploads, opened)
		if err != nil {
			return parts{}, fmt.Errorf("backend %q: %w", b.Name, err)
		}
		p.backends = append(p.backends, backend)
	}
	return p, nil
}

// openCatalog builds the catalog of a cluster.
func openCatalog(cfg *config.Cluster, home *etcd.Conn, log *slog.Logger, opened *closers) *catalog.Catalog {
	records := catalog.New(catalog.Config{
		Connect: home.Client, Cluster: cfg.Name, Prefix: cfg.Catalog.Prefix, LockTTL: cfg.LockTTL, Logger: log,
	})
	opened.later("catalog of cluster "+cfg.Name, records.Close)
	return records
}

// openEtcd builds a connection to an etcd. Files that cannot be read are an error at once; an etcd that does not answer
// is not.
func openEtcd(cfg config.Etcd, opened *closers) (*etcd.Conn, error) {
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
	// A wrong path is the mistake of a person, who is there when the service starts. etcd may come later.
	if err := conn.CheckFiles(); err != nil {
		return nil, err
	}
	opened.later("connection to etcd", conn.Close)
	return conn, nil
}

// password returns the password, from the file if there is one. The newline with which editors end files is not part of
// it.
func password(cfg config.Etcd) (string, error) {
	if cfg.PasswordFile == "" {
		return cfg.Password.Reveal(), nil
	}
	b, err := os.ReadFile(cfg.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read etcd's password: %w (password_file, --etcd-password-file)", err)
	}
	p := strings.TrimRight(string(b), "\r\n")
	if p == "" {
		return "", fmt.Errorf("read etcd's password: %s is empty (password_file, --etcd-password-file)", cfg.PasswordFile)
	}
	return p, nil
}
