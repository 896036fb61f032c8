package telemetry

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
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
	signal   string
	protocol string // empty: it does not
	ignored  string // a setting that nothing here can follow, for the log
}

// routeOf decides by the standard variables where a signal goes. Unlike the usual automatic set-up it does not fall
// back to a collector on localhost: a signal goes out only when an endpoint is given, or OTLP asked for by name.
//
// The exporters read the rest of the variables (endpoint, headers, TLS, timeouts) themselves.
func routeOf(signal string) route {
	r := route{signal: signal}
	if sdkDisabled() {
		return r
	}
	endpoint := firstEnv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	wanted, ignored := wantsOTLP(signal, endpoint != "")
	if !wanted {
		r.ignored = ignored
		return r
	}
	protocol := firstEnv("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	switch protocol {
	case protocolGRPC, protocolHTTP:
		r.protocol = protocol
	case "":
		r.protocol = protocolFor(endpoint)
	default:
		r.ignored = fmt.Sprintf("OTLP protocol %s for %s: only %s and %s are known",
			protocol, strings.ToLower(signal), protocolGRPC, protocolHTTP)
	}
	return r
}

// leaves reports whether the signal is sent.
func (r route) leaves() bool { return r.protocol != "" }

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

// asChosen calls make, which takes exporter and protocol from the environment alone, while the environment says what
// the route does: OTLP and nothing beside it, by this protocol. Otherwise a list that names Prometheus would open a
// port, and a protocol that is concluded from the endpoint would not be known.
func asChosen[T, O any](ctx context.Context, r route, make func(context.Context, ...O) (T, error)) (T, error) {
	for name, value := range map[string]string{
		"OTEL_" + r.signal + "_EXPORTER":               "otlp",
		"OTEL_EXPORTER_OTLP_" + r.signal + "_PROTOCOL": r.protocol,
		"OTEL_METRICS_PRODUCERS":                       "", // the scrape has them
	} {
		defer restoreEnv(name, os.Getenv(name))
		if err := os.Setenv(name, value); err != nil {
			return *new(T), fmt.Errorf("set %s: %w", name, err)
		}
	}
	made, err := make(ctx)
	if err != nil {
		return made, fmt.Errorf("make the OTLP exporter for %s (%s): %w", strings.ToLower(r.signal), r.protocol, err)
	}
	return made, nil
}

// restoreEnv gives a variable its value again. An empty one is one that is not set, by the specification.
func restoreEnv(name, value string) {
	if value == "" {
		_ = os.Unsetenv(name)
		return
	}
	_ = os.Setenv(name, value)
}
