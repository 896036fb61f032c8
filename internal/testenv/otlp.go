package testenv

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	collectorlogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// otlpWait is how long tests wait for telemetry to arrive.
const otlpWait = 30 * time.Second

// OTLP is a collector of traces, metrics and logs on loopback.
type OTLP struct {
	GRPC string // endpoint for the protocol grpc, with its scheme
	HTTP string // endpoint for the protocol http/protobuf

	mu      sync.Mutex
	spans   []Span
	metrics map[string]*metricspb.Metric
	records []Record
	changed chan struct{} // closed and replaced when something has arrived
}

// Span is a span that has arrived. Ids are hex.
type Span struct {
	Name       string
	Service    string
	TraceID    string
	SpanID     string
	ParentID   string // empty at a root
	Start      time.Time
	Duration   time.Duration
	Attributes map[string]string // those that are strings
	Resource   map[string]string // those that are strings
	Error      string            // of the status
	Kind       string            // SPAN_KIND_INTERNAL, …
	Exceptions int               // recorded on it
}

// Record is a log record that has arrived. Ids are hex.
type Record struct {
	Body       string
	Severity   string // DEBUG, INFO, …
	Time       time.Time
	TraceID    string // empty without a span
	SpanID     string
	Attributes map[string]string // those that are strings
	Resource   map[string]string // those that are strings
}

// StartOTLP starts a collector that ends with the test.
func StartOTLP(tb testing.TB) *OTLP {
	tb.Helper()
	o := &OTLP{metrics: make(map[string]*metricspb.Metric), changed: make(chan struct{})}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen for OTLP: %v", err)
	}
	srv := grpc.NewServer()
	collectortrace.RegisterTraceServiceServer(srv, otlpTraces{o: o})
	collectormetrics.RegisterMetricsServiceServer(srv, otlpMetrics{o: o})
	collectorlogs.RegisterLogsServiceServer(srv, otlpLogs{o: o})
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(lis) })
	web := httptest.NewServer(o.handler())
	tb.Cleanup(func() {
		srv.Stop()
		web.Close()
		wg.Wait()
	})
	o.GRPC, o.HTTP = "http://"+lis.Addr().String(), web.URL
	return o
}

// Spans returns the spans that have arrived.
func (o *OTLP) Spans() []Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.spans)
}

// WaitSpan waits for a span of that name and returns it.
func (o *OTLP) WaitSpan(tb testing.TB, name string) Span {
	tb.Helper()
	var found Span
	o.wait(tb, "a span "+name, func() bool {
		i := slices.IndexFunc(o.spans, func(s Span) bool { return s.Name == name })
		if i >= 0 {
			found = o.spans[i]
		}
		return i >= 0
	})
	return found
}

// WaitMetric waits for a metric of that name and returns its last points.
func (o *OTLP) WaitMetric(tb testing.TB, name string) *metricspb.Metric {
	tb.Helper()
	var found *metricspb.Metric
	o.wait(tb, "a metric "+name, func() bool {
		found = o.metrics[name]
		return found != nil
	})
	return found
}

// WaitRecord waits for a log record with that body and returns it.
func (o *OTLP) WaitRecord(tb testing.TB, body string) Record {
	tb.Helper()
	var found Record
	o.wait(tb, "a log record "+body, func() bool {
		i := slices.IndexFunc(o.records, func(r Record) bool { return r.Body == body })
		if i >= 0 {
			found = o.records[i]
		}
		return i >= 0
	})
	return found
}

// Records returns the log records that have arrived.
func (o *OTLP) Records() []Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.records)
}

func (o *OTLP) wait(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(otlpWait)
	for {
		o.mu.Lock()
		done, changed := ok(), o.changed
		o.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			tb.Fatalf("%s did not arrive over OTLP; there are the spans %+v", what, o.Spans())
		}
	}
}

func (o *OTLP) arrived(add func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	add()
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *OTLP) addTraces(req *collectortrace.ExportTraceServiceRequest) {
	o.arrived(func() {
		for _, rs := range req.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					o.spans = append(o.spans, Span{
						Name:       s.GetName(),
						Service:    resourceOf(rs.GetResource())["service.name"],
						TraceID:    hex.EncodeToString(s.GetTraceId()),
						SpanID:     hex.EncodeToString(s.GetSpanId()),
						ParentID:   hex.EncodeToString(s.GetParentSpanId()),
						Start:      time.Unix(0, int64(s.GetStartTimeUnixNano())),
						Duration:   time.Duration(s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano()),
						Attributes: attributesOf(s.GetAttributes()),
						Resource:   resourceOf(rs.GetResource()),
						Error:      s.GetStatus().GetMessage(),
						Kind:       s.GetKind().String(),
						Exceptions: exceptionsOf(s.GetEvents()),
					})
				}
			}
		}
	})
}

func (o *OTLP) addMetrics(req *collectormetrics.ExportMetricsServiceRequest) {
	o.arrived(func() {
		for _, rm := range req.GetResourceMetrics() {
			for _, sm := range rm.GetScopeMetrics() {
				for _, m := range sm.GetMetrics() {
					o.metrics[m.GetName()] = m
				}
			}
		}
	})
}

func (o *OTLP) addLogs(req *collectorlogs.ExportLogsServiceRequest) {
	o.arrived(func() {
		for _, rl := range req.GetResourceLogs() {
			for _, sl := range rl.GetScopeLogs() {
				for _, r := range sl.GetLogRecords() {
					o.records = append(o.records, Record{
						Body:       r.GetBody().GetStringValue(),
						Severity:   r.GetSeverityText(),
						Time:       time.Unix(0, int64(r.GetTimeUnixNano())),
						TraceID:    hex.EncodeToString(r.GetTraceId()),
						SpanID:     hex.EncodeToString(r.GetSpanId()),
						Attributes: attributesOf(r.GetAttributes()),
						Resource:   resourceOf(rl.GetResource()),
					})
				}
			}
		}
	})
}

func resourceOf(r *resourcepb.Resource) map[string]string { return attributesOf(r.GetAttributes()) }

func exceptionsOf(events []*tracepb.Span_Event) int {
	n := 0
	for _, e := range events {
		if e.GetName() == "exception" {
			n++
		}
	}
	return n
}

func attributesOf(kvs []*commonpb.KeyValue) map[string]string {
	m := make(map[string]string, len(kvs))
	for _, kv := range kvs {
		if v, ok := kv.GetValue().GetValue().(*commonpb.AnyValue_StringValue); ok {
			m[kv.GetKey()] = v.StringValue
		}
	}
	return m
}

type otlpTraces struct {
	collectortrace.UnimplementedTraceServiceServer
	o *OTLP
}

// Export implements the RPC.
func (s otlpTraces) Export(
	_ context.Context, req *collectortrace.ExportTraceServiceRequest,
) (*collectortrace.ExportTraceServiceResponse, error) {
	s.o.addTraces(req)
	return &collectortrace.ExportTraceServiceResponse{}, nil
}

type otlpMetrics struct {
	collectormetrics.UnimplementedMetricsServiceServer
	o *OTLP
}

// Export implements the RPC.
func (s otlpMetrics) Export(
	_ context.Context, req *collectormetrics.ExportMetricsServiceRequest,
) (*collectormetrics.ExportMetricsServiceResponse, error) {
	s.o.addMetrics(req)
	return &collectormetrics.ExportMetricsServiceResponse{}, nil
}

type otlpLogs struct {
	collectorlogs.UnimplementedLogsServiceServer
	o *OTLP
}

// Export implements the RPC.
func (s otlpLogs) Export(
	_ context.Context, req *collectorlogs.ExportLogsServiceRequest,
) (*collectorlogs.ExportLogsServiceResponse, error) {
	s.o.addLogs(req)
	return &collectorlogs.ExportLogsServiceResponse{}, nil
}

func (o *OTLP) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		req := new(collectortrace.ExportTraceServiceRequest)
		receive(w, r, req, func() { o.addTraces(req) })
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		req := new(collectormetrics.ExportMetricsServiceRequest)
		receive(w, r, req, func() { o.addMetrics(req) })
	})
	mux.HandleFunc("POST /v1/logs", func(w http.ResponseWriter, r *http.Request) {
		req := new(collectorlogs.ExportLogsServiceRequest)
		receive(w, r, req, func() { o.addLogs(req) })
	})
	return mux
}

func receive(w http.ResponseWriter, r *http.Request, req proto.Message, add func()) {
	body, err := bodyOf(r)
	if err == nil {
		err = proto.Unmarshal(body, req)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	add()
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty body is an empty response
}

func bodyOf(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(r.Body)
	}
	gz, err := gzip.NewReader(r.Body)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(gz)
	return b, errors.Join(err, gz.Close())
}
