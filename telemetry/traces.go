package telemetry

import (
	"context"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// startTraces sets the global tracer provider.
//
// When traces are not exported, spans still have ids, so that the log can be read by request and a caller's trace goes
// on through this service to etcd and S3. Such spans are sampled only if the caller's is, so that no exemplar points to
// a trace that does not exist.
func (t *Telemetry) startTraces(ctx context.Context, cfg Config, res *resource.Resource) error {
	if sdkDisabled() {
		otel.SetTracerProvider(noop.NewTracerProvider())
		return nil
	}
	r := routeOf(signalTraces)
	if r.ignored != "" {
		cfg.Logger.WarnContext(ctx, "traces are not exported", "reason", r.ignored)
	}
	opts := []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}
	switch {
	case r.leaves():
		exporter, err := asChosen(ctx, r, autoexport.NewSpanExporter)
		if err != nil {
			return err
		}
		opts = append(opts, sdktrace.WithBatcher(exporter))
		cfg.Logger.InfoContext(ctx, "traces are exported", "protocol", r.protocol)
	case firstEnv("OTEL_TRACES_SAMPLER") == "":
		opts = append(opts, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
	}
	provider := sdktrace.NewTracerProvider(opts...)
	otel.SetTracerProvider(provider)
	t.stops = append(t.stops, provider.Shutdown)
	return nil
}
