package telemetry

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
)

// logScope is the instrumentation scope of the log, that of the spans.
const logScope = "github.com/snapshotd/snapshotd"

// startLogs makes the handler that sends log records to a collector, if they leave. Records wait in a bounded queue,
// which drops some when it is full: the caller waits for no collector.
func (t *Telemetry) startLogs(ctx context.Context, cfg Config, res *resource.Resource) error {
	r := routeOf(signalLogs)
	if r.ignored != "" {
		cfg.Logger.WarnContext(ctx, "logs are not exported", "reason", r.ignored)
	}
	if !r.leaves() {
		return nil
	}
	exporter, err := asChosen(ctx, r, autoexport.NewLogExporter)
	if err != nil {
		return err
	}
	cfg.Logger.InfoContext(ctx, "logs are exported", "protocol", r.protocol)
	provider := sdklog.NewLoggerProvider(
		sdklog.WithResource(res), sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)))
	t.logs = otelslog.NewHandler(logScope, otelslog.WithLoggerProvider(provider))
	t.stops = append(t.stops, provider.Shutdown)
	return nil
}

// SlogHandler returns a [LogHandler] that also sends the records that next takes to the collector of logs, if there is
// one. The logger of [Config] must not have it: messages about the collector would be sent to the collector.
func (t *Telemetry) SlogHandler(next slog.Handler) slog.Handler {
	if t.logs == nil {
		return LogHandler(next)
	}
	return both{LogHandler(next), t.logs}
}

// both gives each record to two handlers. The first one decides which records there are, and its error counts: the
// other one has a queue, and none.
type both struct{ next, sent slog.Handler }

// Enabled implements [slog.Handler].
func (b both) Enabled(ctx context.Context, level slog.Level) bool { return b.next.Enabled(ctx, level) }

// Handle implements [slog.Handler].
func (b both) Handle(ctx context.Context, r slog.Record) error {
	_ = b.sent.Handle(ctx, r.Clone())
	return b.next.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (b both) WithAttrs(attrs []slog.Attr) slog.Handler {
	return both{b.next.WithAttrs(attrs), b.sent.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (b both) WithGroup(name string) slog.Handler {
	return both{b.next.WithGroup(name), b.sent.WithGroup(name)}
}
