package telemetry

import (
	"context"
	"log/slog"
)

// minWarning is the level that logr gives the warnings of OpenTelemetry. Records below it report each tracer and meter
// that is made.
const minWarning = slog.Level(-1)

// warningsOf returns a handler that passes on the warnings of OpenTelemetry, as warnings, and its errors.
func warningsOf(next slog.Handler) slog.Handler { return warnings{next} }

type warnings struct{ slog.Handler }

// Enabled implements [slog.Handler].
func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= minWarning && h.Handler.Enabled(ctx, max(level, slog.LevelWarn))
}

// Handle implements [slog.Handler].
func (h warnings) Handle(ctx context.Context, r slog.Record) error {
	plain := slog.NewRecord(r.Time, max(r.Level, slog.LevelWarn), r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if text := a.Value.String(); withoutSecrets(text) != text {
			a.Value = slog.StringValue(withoutSecrets(text))
		}
		plain.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, plain)
}

// WithAttrs implements [slog.Handler].
func (h warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h warnings) WithGroup(name string) slog.Handler { return warnings{h.Handler.WithGroup(name)} }
