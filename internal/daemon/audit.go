package daemon

import (
	"bytes"
	"context"
	"errors"
	"time"

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

// checkAudit stores a record that says so. It stays: there is no way to remove one.
func (s *Service) checkAudit() *partCheck {
	c := &partCheck{part: "audit records", seen: map[string]bool{}}
	store, err := s.openAudit()
	c.ask = func(ctx context.Context, report func(string, error)) {
		if err != nil {
			report("open", err)
			return
		}
		o := audit.NewObjects(audit.ObjectsConfig{Store: store, Node: s.cfg.NodeName})
		o.Start(ctx)
		report("store a record", o.Store(ctx, &audit.Record{
			Time: time.Now().UTC(), Operation: "Check", Kind: "local", Role: "none", Code: "OK", Via: "config check",
		}))
		over, cancel := context.WithCancel(ctx)
		cancel() // what could not be stored is not tried again
		_ = o.Close(over)
	}
	return c
}
