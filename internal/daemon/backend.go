package daemon

import (
	"net/url"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
)

// openBackend builds the adapter of a place for snapshots. Nothing is dialled, and no directory is made: one that a person
// named and that is not there is one that is not mounted.
func (s *Service) openBackend(cfg config.Backend, uploads snapshot.Limiter) (snapshot.Backend, error) {
	b, err := storage.New(storage.Config{Name: cfg.Name, URL: cfg.URL.Reveal(), UploadLimit: uploads})
	if err != nil {
		return nil, err
	}
	s.closeLater("backend "+cfg.Name, b.Close)
	return b, nil
}

// openKept opens the place of this replica for what no backend took.
func (s *Service) openKept(cluster string, dir *dataDir) (snapshot.Backend, error) {
	path, err := dir.kept(cluster)
	if err != nil {
		return nil, err
	}
	place := url.URL{Scheme: "file", Path: path}
	b, err := storage.New(storage.Config{Name: "kept", URL: place.String()})
	if err != nil {
		return nil, err
	}
	s.closeLater("kept snapshots of cluster "+cluster, b.Close)
	return b, nil
}
