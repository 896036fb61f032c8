package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/snapshotd/snapshotd/cluster"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/snapshot"
)

const serviceName = "snapshotd.v1.SnapshotService"

// get returns the status and the body of an HTTP request.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// health returns the health service's status of a service.
func health(t *testing.T, r *running, service string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	resp, err := healthpb.NewHealthClient(r.dial(t)).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetStatus()
}

func TestHealthFlipsBeforeAnythingIsTakenAway(t *testing.T) {
	draining, drained := make(chan struct{}), make(chan struct{})
	r := run(t, server.Config{ShutdownTimeout: time.Hour, Drain: func(context.Context) {
		close(draining)
		<-drained
	}}, failing(snapshot.ReasonSnapshotNotFound.New("none")))

	for _, service := range []string{"", serviceName, snapshotdv1.ClusterService_ServiceDesc.ServiceName} {
		if got := health(t, r, service); got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q is %v while it serves", service, got)
		}
	}
	if code, body := get(t, "http://"+r.HTTPAddr()+"/readyz"); code != 200 || body != "serving\n" {
		t.Errorf("/readyz is %d %q while it serves", code, body)
	}
	r.stop()
	wait(t, draining, "the call of Drain")
	for _, service := range []string{"", serviceName, snapshotdv1.ClusterService_ServiceDesc.ServiceName} {
		if got := health(t, r, service); got != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health of %q is %v while it stops", service, got)
		}
	}
	if code, body := get(t, "http://"+r.HTTPAddr()+"/readyz"); code != 503 || body != "stopping\n" {
		t.Errorf("/readyz is %d %q while it stops", code, body)
	}
	if code, _ := get(t, "http://"+r.HTTPAddr()+"/healthz"); code != 200 {
		t.Errorf("/healthz is %d while it stops", code)
	}
	_, err := r.client(t).Get(t.Context(), &snapshotdv1.GetRequest{Name: "a"})
	checkError(t, err, codes.NotFound, snapshot.ReasonSnapshotNotFound)
	close(drained)
	wait(t, r.done, "the end of Run")
}

// saving is a cluster whose Save says when it is entered and ends when it is released or cancelled.
func saving() (c *fakeCluster, entered, release chan struct{}) {
	entered, release = make(chan struct{}), make(chan struct{})
	return &fakeCluster{name: "prod", save: func(ctx context.Context, _ cluster.SaveRequest) (cluster.SaveResult, error) {
		close(entered)
		select {
		case <-release:
			return cluster.SaveResult{Snapshot: inState(snapshot.StateReady, snapshot.Snapshot{Name: "a"})}, nil
		case <-ctx.Done():
			s := inState(snapshot.StateFailed, snapshot.Snapshot{Name: "a", Cluster: "prod"})
			return cluster.SaveResult{Snapshot: s}, snapshot.ReasonCancelled.New("save").Because(context.Cause(ctx))
		}
	}}, entered, release
}

type outcome struct {
	resp *snapshotdv1.SaveResponse
	err  error
}

// startSave calls Save and returns where its outcome comes.
func startSave(t *testing.T, r *running) <-chan outcome {
	t.Helper()
	client, done := r.client(t), make(chan outcome, 1)
	go func() {
		resp, err := client.Save(t.Context(), &snapshotdv1.SaveRequest{})
		done <- outcome{resp, err}
	}()
	return done
}

func TestShutdownWaitsForARunningSave(t *testing.T) {
	c, entered, release := saving()
	r := run(t, server.Config{ShutdownTimeout: time.Hour}, c)
	watcher := watch(t, r.client(t), &snapshotdv1.WatchRequest{})
	result := startSave(t, r)
	wait(t, entered, "the call of Save")
	r.stop()
	if _, err := watcher.Recv(); err == nil { // streams are ended just before calls are waited for
		t.Error("the watcher goes on")
	}
	select {
	case <-r.done:
		t.Fatal("Run ended while a save was running")
	default:
	}
	close(release)
	if o := wait(t, result, "the answer"); o.err != nil ||
		o.resp.GetSnapshot().GetState() != snapshotdv1.Snapshot_STATE_READY {
		t.Errorf("the save ended with %v, %v", o.resp, o.err)
	}
	wait(t, r.done, "the end of Run")
}

func TestShutdownCancelsASaveAtTheDeadline(t *testing.T) {
	c, entered, _ := saving()
	r := run(t, server.Config{ShutdownTimeout: time.Millisecond}, c)
	result := startSave(t, r)
	wait(t, entered, "the call of Save")
	r.stop()
	o := wait(t, result, "the answer")
	d := checkError(t, o.err, codes.Unavailable, snapshot.ReasonShuttingDown)
	if d.Retry == 0 || d.Snapshot.GetState() != snapshotdv1.Snapshot_STATE_FAILED {
		t.Errorf("details are %+v", d)
	}
	wait(t, r.done, "the end of Run")
}

func TestCloseEndsRun(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod"})
	if code, _ := get(t, "http://"+r.HTTPAddr()+"/healthz"); code != 200 {
		t.Fatalf("/healthz is %d", code)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, r.done, "the end of Run")
	if err := r.Close(t.Context()); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	if err := r.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}

func TestCloseWithoutRunFreesThePorts(t *testing.T) {
	s, err := server.New(server.Config{
		Clusters: served(&fakeCluster{name: "prod"}), Events: new(server.Events), GRPCAddr: "127.0.0.1:0",
		HTTPAddr: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{s.GRPCAddr(), s.HTTPAddr()} {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			t.Errorf("somebody listens on %s", addr)
		}
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("Run ran after Close")
	}
}

func TestAPortThatIsTakenIsAnErrorThatNamesIt(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	s, err := server.New(server.Config{
		Clusters: served(&fakeCluster{name: "prod"}), Events: new(server.Events), GRPCAddr: "127.0.0.1:0",
		HTTPAddr: lis.Addr().String(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), lis.Addr().String()) {
		t.Errorf("Open: %v", err)
	}
}

func TestHTTPShowsWhatThereIs(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
	r := run(t, server.Config{Metrics: metrics, Version: "1.2.3"}, &fakeCluster{name: "prod"})
	for path, want := range map[string]string{"/": "snapshotd 1.2.3\n", "/metrics": "up 1\n", "/healthz": "ok\n",
		"/readyz": "serving\n"} {
		if code, body := get(t, "http://"+r.HTTPAddr()+path); code != 200 || !strings.HasPrefix(body, want) {
			t.Errorf("%s is %d %q", path, code, body)
		}
	}
	if code, body := get(t, "http://"+r.HTTPAddr()+"/"); code != 200 || !strings.Contains(body, r.GRPCAddr()) {
		t.Errorf("/ does not say where gRPC is: %q", body)
	}
	if code, _ := get(t, "http://"+r.HTTPAddr()+"/nothing"); code != 404 {
		t.Errorf("/nothing is %d", code)
	}
}

func TestReflectionListsTheService(t *testing.T) {
	r := run(t, server.Config{}, &fakeCluster{name: "prod"})
	stream, err := reflectionpb.NewServerReflectionClient(r.dial(t)).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, want := range []string{serviceName, "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("there are %q, and %s is not among them", names, want)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

// TestATraceGoesOn: the caller's trace goes on in the handler, over gRPC and over HTTP; health checks leave no spans.
func TestATraceGoesOn(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() { otel.SetTracerProvider(before) })

	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	r := run(t, server.Config{},
		&fakeCluster{name: "prod", get: func(ctx context.Context, _ string) (*snapshot.Record, error) {
			_, span := otel.Tracer("test").Start(ctx, "domain")
			span.End()
			return &snapshot.Record{}, nil
		}})
	health(t, r, "")
	const traceparent = "00-" + trace + "-" + parent + "-01"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", traceparent)
	if _, err := r.client(t).Get(ctx, &snapshotdv1.GetRequest{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	r.ask(t, "GET", "/v1/snapshots/a", "", "Traceparent", traceparent)
	r.stop()
	wait(t, r.done, "the end of Run")
	spans := exporter.GetSpans()
	rpcs := make(map[string]bool)
	for _, s := range spans {
		if s.Name != "domain" {
			rpcs[s.SpanContext.SpanID().String()] = s.SpanContext.TraceID().String() == trace &&
				s.Parent.SpanID().String() == parent
		}
	}
	if len(spans) != 4 || len(rpcs) != 2 {
		t.Fatalf("there are %d spans: %v", len(spans), spans.Snapshots())
	}
	for _, s := range spans {
		if s.Name == "domain" && !rpcs[s.Parent.SpanID().String()] {
			t.Errorf("the spans are not one trace: %+v", s)
		}
	}
}
