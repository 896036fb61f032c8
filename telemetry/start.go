package telemetry

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
)

// Start sets up metrics, traces and logs, and makes the first two OpenTelemetry's global ones, with W3C propagation. It
// waits for no collector: one that cannot be reached is reported to the logger, not more than once a minute.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	if err := ValidPrefix(cfg.MetricsPrefix); err != nil {
		return nil, fmt.Errorf("start telemetry: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	complaints := newComplaints(cfg.Logger)
	otel.SetErrorHandler(complaints)
	otel.SetLogger(logr.FromSlogHandler(warningsOf(cfg.Logger.Handler())))
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))

	t := &Telemetry{}
	if err := t.start(ctx, cfg, complaints); err != nil {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel() // the parts that were started have nothing to send
		_ = t.Shutdown(ctx)
		return nil, fmt.Errorf("start telemetry: %w", err)
	}
	return t, nil
}

func (t *Telemetry) start(ctx context.Context, cfg Config, complaints *complaints) error {
	res, err := newResource(ctx, cfg)
	if err != nil {
		// The attributes of this machine that were found are still useful.
		cfg.Logger.WarnContext(ctx, "telemetry resource is incomplete", "error", err)
	}
	if err := t.startTraces(ctx, cfg, res); err != nil {
		return err
	}
	if err := t.startLogs(ctx, cfg, res); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	if err := t.startMetrics(ctx, cfg, res, registry); err != nil {
		return err
	}
	t.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:          complaints,
		ErrorHandling:     promhttp.ContinueOnError,
		EnableOpenMetrics: true, // exemplars travel in no other format
	})
	return nil
}
