package service

import (
	"context"
	"errors"
	"log/slog"

	"github.com/snapshotd/snapshotd/internal/config"
)

func (s *Service) openParts(ctx context.Context, cfg *config.Cluster, log *slog.Logger) (parts, error) {
	return parts{}, errors.New("its adapters are not joined yet")
}

func (s *Service) openDev(ctx context.Context, dir *dataDir) error {
	return errors.New("its adapters are not joined yet")
}
