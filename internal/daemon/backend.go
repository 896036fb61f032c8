package daemon

import (
	"net/url"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/repository"
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
