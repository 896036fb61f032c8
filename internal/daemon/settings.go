package daemon

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
)

// settings are those of the whole service that change while it runs, and that nothing else keeps.
type settings struct {
	level    slog.LevelVar // of the log
	interval atomic.Int64  // of reconciles, in nanoseconds
}

// set applies a configuration. Its level must have been validated.
func (s *settings) set(cfg *config.Config) error {
	if err := s.level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return fmt.Errorf("set the level of the log: %w", err)
	}
	s.interval.Store(int64(cfg.ReconcileInterval))
	return nil
}

// reconcileInterval returns the pause between the end of one reconcile of a cluster and the next.
func (s *settings) reconcileInterval() time.Duration { return time.Duration(s.interval.Load()) }
