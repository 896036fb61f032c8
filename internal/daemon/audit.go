package daemon

import (
	"bytes"
	"context"
	"errors"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/server/audit"
	"github.com/snapshotd/snapshotd/snapshot"
)

// auditStore keeps audit records in a directory or bucket.
type auditStore struct{ backend repository.Backend }

// openAudit builds the adapter of the place for audit records; nil when the configuration names none. Nothing is
// dialled.
func (s *Service) openAudit() (audit.Store, error) {
	if s.cfg.AuditURL == "" {
		return nil, nil
	}
	b, err := s.openBackend(config.Backend{Name: "audit", URL: s.cfg.AuditURL}, nil, &s.closers)
	if err != nil {
		return nil, err
	}
	return auditStore{b}, nil
}

// Create implements [audit.Store]. An object that exists is that of an attempt whose answer was lost: nobody else has
// its key.
func (a auditStore) Create(ctx context.Context, key string, data []byte) error {
	err := a.backend.Put(ctx, key, bytes.NewReader(data), repository.PutOptions{
		ContentType: "application/jsonl", SizeHint: int64(len(data)), IfAbsent: true,
	})
	if errors.Is(err, snapshot.ErrExists) {
		return nil
	}
	return err
}
