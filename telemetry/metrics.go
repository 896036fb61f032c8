package telemetry

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
)

// callBoundaries are those of the duration of calls, in seconds. The library's own end at ten seconds; a Save may take
// an hour.
var callBoundaries = []float64{
	0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600,
}

// unlimited lets the metrics of ours have a series for each of any number of clusters. By default the library counts
// all beyond 2,000 series of a metric together, under a label of its own: some clusters would have no metrics. The
// labels come from the configuration alone, so that no caller makes series.
const unlimited = 0

// startMetrics builds the three meter providers on one registry, and the instruments of ours.
func (t *Telemetry) startMetrics(
	ctx context.Context, cfg Config, res *resource.Resource, registry *prometheus.Registry,
) error {
	process := collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})
	for _, c := range []prometheus.Collector{collectors.NewGoCollector(), process} {
		if err := registry.Register(c); err != nil {
			return fmt.Errorf("register the metrics of the process: %w", err)
		}
	}
	b := meterBuilder{registry: registry, resource: res, route: metricRoute(ctx, cfg)}
	plain := []otelprom.Option{otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo()}
	six, err := b.build(ctx, append(plain, otelprom.WithNamespace(namespace(cfg.MetricsPrefix))))
	if err != nil {
		return err
	}
	t.stops = append(t.stops, six.Shutdown)
	own, err := b.build(ctx, plain,
		sdkmetric.WithCardinalityLimit(unlimited), sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter))
	if err != nil {
		return err
	}
	t.stops = append(t.stops, own.Shutdown)
	calls := sdkmetric.WithView(
		longCalls("rpc.server.call.duration", nil), longCalls("rpc.client.call.duration", anyServer))
	libraries, err := b.build(ctx, nil, calls)
	if err != nil {
		return err
	}
	t.stops = append(t.stops, libraries.Shutdown)
	if b.route.leaves() {
		cfg.Logger.InfoContext(ctx, "metrics are exported over OTLP", "protocol", b.route.protocol)
	}
	otel.SetMeterProvider(libraries)

	t.observer, err = newObserver(ctx, six, own, cfg.ServiceVersion)
	return err
}

// metricRoute returns the way of metrics besides the scrape.
func metricRoute(ctx context.Context, cfg Config) route {
	r := routeOf(signalMetrics)
	if r.ignored != "" {
		cfg.Logger.WarnContext(ctx, "metrics are not exported over OTLP", "reason", r.ignored)
	}
	return r
}

// meterBuilder makes meter providers that feed one scrape and, where metrics leave by OTLP, an exporter each.
type meterBuilder struct {
	registry *prometheus.Registry
	resource *resource.Resource
	route    route
}

func (b meterBuilder) build(
	ctx context.Context, scrape []otelprom.Option, opts ...sdkmetric.Option,
) (*sdkmetric.MeterProvider, error) {
	// The strategy is given so that a later default does not rename the series of dashboards.
	reader, err := otelprom.New(append(scrape,
		otelprom.WithRegisterer(b.registry),
		otelprom.WithTranslationStrategy("UnderscoreEscapingWithSuffixes"),
	)...)
	if err != nil {
		return nil, fmt.Errorf("make the Prometheus exporter: %w", err)
	}
	opts = append(opts, sdkmetric.WithResource(b.resource), sdkmetric.WithReader(reader))
	if b.route.leaves() {
		sender, err := asChosen(ctx, b.route, autoexport.NewMetricReader)
		if err != nil {
			return nil, err
		}
		opts = append(opts, sdkmetric.WithReader(sender))
	}
	return sdkmetric.NewMeterProvider(opts...), nil
}

// anyServer leaves out which server was called. Each cluster has servers of its own, and each of them a histogram for
// each method and status: a thousand clusters would make a scrape of 30 MB.
var anyServer = attribute.NewDenyKeysFilter("server.address", "server.port")

func longCalls(instrument string, attributes attribute.Filter) sdkmetric.View {
	return sdkmetric.NewView(
		sdkmetric.Instrument{Name: instrument},
		sdkmetric.Stream{
			Aggregation:     sdkmetric.AggregationExplicitBucketHistogram{Boundaries: callBoundaries},
			AttributeFilter: attributes,
		},
	)
}
