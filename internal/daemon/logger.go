package daemon

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/telemetry"
)

// newLogger returns the logger of a configuration. Its records carry the ids of the span and the
// principal in their context.
func newLogger(w io.Writer, cfg config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, fmt.Errorf("make the logger: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if cfg.Format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(auth.LogHandler(telemetry.LogHandler(h))), nil
}
