package daemon

import (
	"io"
	"log/slog"

	"github.com/snapshotd/snapshotd/server/auth"
	"github.com/snapshotd/snapshotd/telemetry"
)

// newHandler returns the handler of a log in a format. Its level may change.
func newHandler(w io.Writer, format string, level slog.Leveler) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.NewJSONHandler(w, opts)
	}
	return slog.NewTextHandler(w, opts)
}

// newLogger returns a logger whose records carry the ids of the span and the principal in their context. They also go
// to the collector of a telemetry, if it has one.
func newLogger(h slog.Handler, t *telemetry.Telemetry) *slog.Logger {
	if t == nil {
		return slog.New(auth.LogHandler(telemetry.LogHandler(h)))
	}
	return slog.New(auth.LogHandler(t.SlogHandler(h)))
}
