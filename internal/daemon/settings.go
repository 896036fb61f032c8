package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/server"
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

// applySettings applies the settings of the service in which a configuration differs from the one in effect.
func (r *reloader) applySettings(ctx context.Context, cfg *config.Config) {
	keys := r.applied.Settings(cfg)
	if len(keys) == 0 {
		return
	}
	if err := r.settings.set(cfg); err != nil {
		r.log.ErrorContext(ctx, "settings not applied", "error", err) // they were validated
		return
	}
	r.applied = cfg
	r.setPlaces(ctx, cfg)
	r.server.Apply(r.serverSettings(ctx, cfg))
	r.boundMemory()
	r.log.InfoContext(ctx, "settings are in effect", "keys", strings.Join(keys, ", "))
}

// serverSettings returns the settings of a configuration as the server takes them.
func (s *Service) serverSettings(ctx context.Context, cfg *config.Config) server.Settings {
	return server.Settings{Limits: s.callerLimits(ctx, cfg), ShutdownTimeout: cfg.ShutdownTimeout, TraceURL: cfg.TraceURL}
}
