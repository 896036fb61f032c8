package telemetry_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/telemetry"
)

const (
	remoteTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	remoteParent = "00f067aa0ba902b7"
)

// callerContext is the context of a call whose caller has a sampled trace.
func callerContext(ctx context.Context) context.Context {
	carrier := propagation.MapCarrier{"traceparent": "00-" + remoteTrace + "-" + remoteParent + "-01"}
	return otel.GetTextMapPropagator().Extract(ctx, carrier)
}

// work leaves a span and an observation.
func work(ctx context.Context, tel *telemetry.Telemetry, name string) trace.SpanContext {
	ctx, span := otel.Tracer("test").Start(ctx, name)
	defer span.End()
	tel.Observer().Observe(ctx, snapshot.Event{Type: snapshot.EventReconciled, Cluster: "prod", Duration: time.Second})
	return span.SpanContext()
}

func shutdown(t *testing.T, tel *telemetry.Telemetry) {
	t.Helper()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatalf("Shutdown: %v", err)
	}
}

func TestAnEndpointAloneSendsTracesAndMetrics(t *testing.T) {
	for _, protocol := range []string{"", "http/protobuf", "grpc"} {
		t.Run("protocol="+protocol, func(t *testing.T) {
			clearEnv(t)
			otlp := testenv.StartOTLP(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.HTTP)
			if protocol == "grpc" {
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.GRPC)
			}
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			tel := start(t, telemetry.Config{MetricsPrefix: "k3s_", ServiceVersion: "1.2.3", Node: "node-1"})
			work(callerContext(t.Context()), tel, "reconcile")
			shutdown(t, tel)

			span := otlp.WaitSpan(t, "reconcile")
			if span.TraceID != remoteTrace || span.ParentID != remoteParent {
				t.Errorf("span %+v does not go on with the caller's trace", span)
			}
			for key, want := range map[string]string{
				"service.name": "snapshotd", "service.version": "1.2.3", "service.instance.id": "node-1",
			} {
				if got := span.Resource[key]; got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			points := otlp.WaitMetric(t, "etcd.snapshot.reconcile.duration").GetHistogram().GetDataPoints()
			if len(points) != 1 || points[0].GetCount() != 1 || len(points[0].GetExplicitBounds()) != 15 {
				t.Errorf("the histogram arrived as %v", points)
			}
			otlp.WaitMetric(t, "snapshotd.build_info")
		})
	}
}

func TestTheEnvironmentHasTheLastWord(t *testing.T) {
	clearEnv(t)
	otlp := testenv.StartOTLP(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", otlp.HTTP+"/v1/traces")
	t.Setenv("OTEL_SERVICE_NAME", "backup")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod")
	tel := start(t, telemetry.Config{Node: "node-1"})
	work(t.Context(), tel, "reconcile")
	shutdown(t, tel)
	span := otlp.WaitSpan(t, "reconcile")
	if span.Service != "backup" || span.Resource["deployment.environment.name"] != "prod" {
		t.Errorf("the resource is %v", span.Resource)
	}
}

func TestOnlyTheSignalsThatAreOnLeave(t *testing.T) {
	for _, tc := range []struct {
		name, value     string
		traces, metrics bool
	}{
		{"OTEL_SDK_DISABLED", "true", false, false},
		{"OTEL_TRACES_EXPORTER", "none", false, true},
		{"OTEL_METRICS_EXPORTER", "none", true, false},
		{"OTEL_METRICS_EXPORTER", "prometheus", true, false},
		{"OTEL_METRICS_EXPORTER", "otlp, prometheus", true, true},
		{"OTEL_TRACES_EXPORTER", "zipkin", false, true},                  // unknown: a warning
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", false, true}, // unknown: a warning
	} {
		t.Run(tc.name+"="+tc.value, func(t *testing.T) {
			clearEnv(t)
			var paths sync.Map
			collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				paths.Store(r.URL.Path, true)
			}))
			t.Cleanup(collector.Close)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
			t.Setenv(tc.name, tc.value)
			var log strings.Builder
			warnings := slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})
			tel := start(t, telemetry.Config{Logger: slog.New(warnings)})
			if warned := log.Len() > 0; warned != (tc.value == "zipkin" || tc.value == "http/json") {
				t.Errorf("warned: %v\n%s", warned, log.String())
			}
			work(callerContext(t.Context()), tel, "reconcile")
			want := `etcd_snapshot_reconcile_duration_seconds_count{status="success"} 1`
			if text := scrape(t, tel, ""); !strings.Contains(text, want) {
				t.Error("the scrape lacks the observation")
			}
			shutdown(t, tel)
			if _, sent := paths.Load("/v1/traces"); sent != tc.traces {
				t.Errorf("traces were sent: %v, want %v", sent, tc.traces)
			}
			if _, sent := paths.Load("/v1/metrics"); sent != tc.metrics {
				t.Errorf("metrics were sent: %v, want %v", sent, tc.metrics)
			}
		})
	}
}

// TestTheListOfExportersOpensNoPort: the scrape is on the port of the service. The one that the library would open is
// taken, and its own variables stay as they were.
func TestTheListOfExportersOpensNoPort(t *testing.T) {
	clearEnv(t)
	otlp := testenv.StartOTLP(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	host, port, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{
		"OTEL_EXPORTER_PROMETHEUS_HOST": host, "OTEL_EXPORTER_PROMETHEUS_PORT": port, "OTEL_METRICS_PRODUCERS": "unheard-of",
		"OTEL_METRICS_EXPORTER": "prometheus,otlp", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.GRPC,
	}
	for name, value := range set {
		t.Setenv(name, value)
	}
	tel := start(t, telemetry.Config{})
	work(t.Context(), tel, "reconcile")
	shutdown(t, tel)
	otlp.WaitMetric(t, "snapshotd.build_info")
	for name, value := range set {
		if got := os.Getenv(name); got != value {
			t.Errorf("%s is %q afterwards, and was %q", name, got, value)
		}
	}
}

// TestNothingIsDialledWhenNothingIsSet watches the port that the exporters fall back to, and shows that it would see
// them.
func TestNothingIsDialledWhenNothingIsSet(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:4318")
	if err != nil {
		t.Skipf("the default port of OTLP is taken: %v", err)
	}
	var connections atomic.Int64
	collector := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	_ = collector.Listener.Close()
	collector.Listener = lis
	collector.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	collector.Start()
	t.Cleanup(collector.Close)

	for _, exporter := range []string{"", "otlp"} {
		t.Run("OTEL_TRACES_EXPORTER="+exporter, func(t *testing.T) {
			clearEnv(t)
			t.Setenv("OTEL_TRACES_EXPORTER", exporter)
			if exporter != "" {
				t.Setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
			}
			connections.Store(0)
			tel := start(t, telemetry.Config{})
			work(callerContext(t.Context()), tel, "reconcile")
			shutdown(t, tel)
			// The server takes connections in order: when it has taken this one, it has taken all before it.
			conn, err := net.Dial("tcp", lis.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, err = conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
			_, rerr := conn.Read(make([]byte, 1))
			if err != nil || rerr != nil {
				t.Fatal(err, rerr)
			}
			_ = conn.Close()
			if others := connections.Load() - 1; (others > 0) != (exporter != "") {
				t.Errorf("there were %d connections", others)
			}
		})
	}
}

func TestWithoutAnExporterSpansHaveIDsAndFollowTheCaller(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	if sc := work(t.Context(), tel, "root"); !sc.IsValid() || sc.IsSampled() {
		t.Errorf("a root is %v (sampled %v), want valid and not sampled", sc.TraceID(), sc.IsSampled())
	}
	if sc := work(callerContext(t.Context()), tel, "child"); sc.TraceID().String() != remoteTrace || !sc.IsSampled() {
		t.Errorf("a child is %v (sampled %v), want the caller's, sampled", sc.TraceID(), sc.IsSampled())
	}
}

func TestThePortOfGRPCIsTakenAtItsWord(t *testing.T) {
	clearEnv(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4317")
	var b strings.Builder
	start(t, telemetry.Config{Logger: slog.New(slog.NewTextHandler(&b, nil))})
	if !strings.Contains(b.String(), "protocol=grpc") {
		t.Errorf("gRPC was not chosen:\n%s", b.String())
	}
}

func TestADeadCollectorIsReportedAndHoldsNothingUp(t *testing.T) {
	clearEnv(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = lis.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+lis.Addr().String())
	var log testenv.Buffer
	tel, err := telemetry.Start(t.Context(), telemetry.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	work(ctx, tel, "reconcile")
	if err := tel.Shutdown(ctx); !errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if said := log.String(); !strings.Contains(said, "telemetry was not delivered") || !strings.Contains(said, "connection refused") {
		t.Errorf("the log:\n%s", said)
	}
}

func TestExemplarsLinkHistogramsToTraces(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	sc := work(callerContext(t.Context()), tel, "reconcile")
	work(t.Context(), tel, "not sampled")
	text := scrape(t, tel, "application/openmetrics-text; version=1.0.0")
	var exemplars []string
	for line := range strings.Lines(only(text, "etcd_snapshot_reconcile_duration_seconds_bucket")) {
		if _, exemplar, ok := strings.Cut(line, " # "); ok {
			exemplars = append(exemplars, exemplar)
		}
	}
	if len(exemplars) != 1 || !strings.Contains(exemplars[0], `trace_id="`+remoteTrace+`"`) ||
		!strings.Contains(exemplars[0], `span_id="`+sc.SpanID().String()+`"`) {
		t.Errorf("exemplars are %q in\n%s", exemplars, only(text, "etcd_snapshot_reconcile_duration"))
	}
}

func TestLogsCarryTraceIDs(t *testing.T) {
	clearEnv(t)
	start(t, telemetry.Config{})
	var b strings.Builder
	log := slog.New(telemetry.LogHandler(slog.NewTextHandler(&b, nil))).With("cluster", "prod")
	ctx, span := otel.Tracer("test").Start(callerContext(t.Context()), "save")
	defer span.End()
	log.InfoContext(ctx, "snapshot saved")
	want := "cluster=prod trace_id=" + remoteTrace + " span_id=" + span.SpanContext().SpanID().String()
	if !strings.Contains(b.String(), want) {
		t.Errorf("log is %q, want %q in it", b.String(), want)
	}
	b.Reset()
	log.InfoContext(t.Context(), "no span")
	if strings.Contains(b.String(), "trace_id") {
		t.Errorf("log is %q, want no trace_id", b.String())
	}
}
