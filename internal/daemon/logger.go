package daemon

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/telemetry"
)

// newHandler returns the handler of the log that a configuration asks for.
func newHandler(w io.Writer, cfg config.Log) (slog.Handler, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, fmt.Errorf("make the logger: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.NewJSONHandler(w, opts), nil
	}
	return slog.NewTextHandler(w, opts), nil
}

// newLogger returns a logger whose records carry the ids of the span and the principal in their context. They also go
// to the collector of a telemetry, if it has one.
func newLogger(h slog.Handler, t *telemetry.Telemetry) *slog.Logger {
	if t == nil {
		return slog.New(auth.LogHandler(telemetry.LogHandler(h)))
	}
	return slog.New(auth.LogHandler(t.LogHandler(h)))
}
