package service

import (
	"errors"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/snapshot"
)

// openBackend builds the adapter of a place for snapshots.
func (s *Service) openBackend(config.Backend) (snapshot.Backend, error) {
	return nil, errors.New("storage is not joined yet")
}
