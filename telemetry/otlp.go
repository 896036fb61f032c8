package telemetry

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The signals as the names of the OTEL_* variables spell them.
const (
	signalTraces  = "TRACES"
	signalMetrics = "METRICS"
	signalLogs    = "LOGS"
)

// The protocols of OTLP as the OTEL_* variables spell them.
const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// route says how a signal leaves over OTLP.
type route struct {
	protocol string // empty: it does not
	ignored  string // a setting that nothing here can follow, for the log
}

// routeOf decides by the standard variables where a signal goes. Unlike the usual automatic set-up it does not fall
// back to a collector on localhost: a signal goes out only when an endpoint is given, or OTLP asked for by name.
//
// The exporters read the rest of the variables (endpoint, headers, TLS, timeouts) themselves.
func routeOf(signal string) route {
	if sdkDisabled() {
		return route{}
	}
	endpoint := firstEnv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	wanted, ignored := wantsOTLP(signal, endpoint != "")
	if !wanted {
		return route{ignored: ignored}
	}
	protocol := firstEnv("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	switch protocol {
	case protocolGRPC, protocolHTTP:
		return route{protocol: protocol}
	case "":
		return route{protocol: protocolFor(endpoint)}
	default:
		return route{ignored: fmt.Sprintf("OTLP protocol %s for %s: only %s and %s are known",
			protocol, strings.ToLower(signal), protocolGRPC, protocolHTTP)}
	}
}

// wantsOTLP reports whether the list of a signal's exporters names OTLP, or byDefault when there is no list. ignored is
// a list with an exporter that is not known. Metrics are always scraped, whether the list names Prometheus or not.
func wantsOTLP(signal string, byDefault bool) (wanted bool, ignored string) {
	variable := "OTEL_" + signal + "_EXPORTER"
	list := firstEnv(variable)
	if list == "" {
		return byDefault, ""
	}
	for name := range strings.SplitSeq(list, ",") {
		switch name = strings.TrimSpace(name); {
		case name == "otlp":
			wanted = true
		case name == "none", name == "prometheus" && signal == signalMetrics:
		default:
			ignored = fmt.Sprintf("%s=%s: only otlp and none are known", variable, list)
		}
	}
	return wanted, ignored
}

// protocolFor returns the protocol of an endpoint for which none is set: http/protobuf as the specification wants it,
// but gRPC on the port that is registered for it, where HTTP cannot succeed.
func protocolFor(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Port() == "4317" {
		return protocolGRPC
	}
	return protocolHTTP
}

func sdkDisabled() bool { return strings.EqualFold(firstEnv("OTEL_SDK_DISABLED"), "true") }

func firstEnv(names ...string) string {
	for _, n := range names {
		if v := strings.TrimSpace(os.Getenv(n)); v != "" {
			return v
		}
	}
	return ""
}

// newSpanExporter returns nil when traces do not leave.
func newSpanExporter(ctx context.Context, r route) (sdktrace.SpanExporter, error) {
	switch r.protocol {
	case protocolGRPC:
		return otlptracegrpc.New(ctx)
	case protocolHTTP:
		return otlptracehttp.New(ctx)
	default:
		return nil, nil
	}
}

// newLogExporter returns nil when logs do not leave.
func newLogExporter(ctx context.Context, r route) (sdklog.Exporter, error) {
	switch r.protocol {
	case protocolGRPC:
		return otlploggrpc.New(ctx)
	case protocolHTTP:
		return otlploghttp.New(ctx)
	default:
		return nil, nil
	}
}

// newMetricExporter returns nil when metrics do not leave.
func newMetricExporter(ctx context.Context, r route) (sdkmetric.Exporter, error) {
	switch r.protocol {
	case protocolGRPC:
		return otlpmetricgrpc.New(ctx)
	case protocolHTTP:
		return otlpmetrichttp.New(ctx)
	default:
		return nil, nil
	}
}

// shared is an exporter that several readers use: it outlives each of them.
type shared struct{ sdkmetric.Exporter }

// Shutdown does nothing; [Telemetry.Shutdown] shuts the exporter down.
func (shared) Shutdown(context.Context) error { return nil }
