//go:build e2e

package e2e

import (
	"os"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/snapshotd/snapshotd/internal/testenv"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// TestTraceOfTheCallerGoesOnThroughASave begins a trace as a program would and finds all parts of the save in it.
func TestTraceOfTheCallerGoesOnThroughASave(t *testing.T) {
	w := newWorld(t, 0)
	otlp := testenv.StartOTLP(t)
	s := start(t, w.traced(otlp), w.args(t, "")...)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	if _, err := s.client().Save(ctx, &snapshotdv1.SaveRequest{}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"snapshotd.v1.SnapshotService/Save", "snapshot save", "etcd choose member", "etcd snapshot stream",
		"snapshot compress", "snapshot inspect", "snapshot write", "storage put", "catalog begin", "catalog update",
	}
	var missing []string
	eventually(t, "the spans arrive", func() bool {
		seen := map[string]bool{}
		for _, sp := range otlp.Spans() {
			if sp.TraceID == trace {
				seen[sp.Name] = true
			}
		}
		missing = nil
		for _, name := range want {
			if !seen[name] {
				missing = append(missing, name)
			}
		}
		return len(missing) == 0
	})
	if len(missing) > 0 {
		t.Errorf("not in the trace: %q", missing)
	}
	if r := otlp.WaitRecord(t, "snapshot saved"); r.TraceID != trace || r.Attributes["cluster"] == "" {
		t.Errorf("the log record of the save is %+v", r)
	}
}

// TestATraceOfASaveReachesJaeger saves over gRPC and asks a real Jaeger for the trace, as a person would: by the service,
// the call, and the cluster. That of a save that did not reach all backends shows where it failed.
func TestATraceOfASaveReachesJaeger(t *testing.T) {
	if os.Getenv("SNAPSHOTD_JAEGER") == "" {
		t.Skip("SNAPSHOTD_JAEGER is not set: building Jaeger takes eight minutes of processor time")
	}
	const call = "snapshotd.v1.SnapshotService/Save"
	w := newWorld(t, 0)
	jaeger := testenv.StartJaeger(t)
	o := w.options()
	o.env = append(o.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+jaeger.OTLP, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none", "OTEL_BSP_SCHEDULE_DELAY=100")
	s := start(t, o, w.args(t, "")...)
	s.must("reconcile") // the backends have their markers then, which a save and the first reconcile would both make
	saved, err := s.client().Save(t.Context(), &snapshotdv1.SaveRequest{})
	if err != nil {
		t.Fatal(err)
	}
	trace := savedIn(t, jaeger, saved.GetSnapshot())
	for _, span := range trace.Spans {
		if span.Tag("error") != nil { // that an object is not there yet is the answer that a save expects
			t.Errorf("%s has an error: %v", span.OperationName, span.Tags)
		}
	}

	w.s3.Stop()
	if _, err := s.client().Save(t.Context(), &snapshotdv1.SaveRequest{}); err == nil {
		t.Fatal("a save has succeeded without S3")
	}
	eventually(t, "Jaeger shows a call that failed", func() bool {
		return len(jaeger.Traces("snapshotd", call, map[string]string{"error": "true"})) == 1
	})
	failed := jaeger.Traces("snapshotd", "snapshot write", map[string]string{"error": "true", "backend": "s3"})
	if len(failed) != 1 || failed[0].TraceID == trace.TraceID {
		t.Errorf("Jaeger shows %d writes to s3 that failed: %v", len(failed), failed)
	}
}

// savedIn waits until Jaeger has the whole trace of a save: a tree with the call as its only root.
func savedIn(t *testing.T, jaeger *testenv.Jaeger, saved *snapshotdv1.Snapshot) testenv.JaegerTrace {
	t.Helper()
	var trace testenv.JaegerTrace
	eventually(t, "Jaeger shows the call", func() bool {
		found := jaeger.Traces("snapshotd", "snapshotd.v1.SnapshotService/Save", nil)
		if len(found) > 0 {
			trace = found[0]
		}
		return len(found) == 1
	})
	if trace.TraceID != saved.GetTraceId() {
		t.Errorf("the trace is %s, and the snapshot names %q", trace.TraceID, saved.GetTraceId())
	}
	known := map[string]bool{}
	names := map[string]*testenv.JaegerSpan{}
	for i, span := range trace.Spans {
		known[span.SpanID], names[span.OperationName] = true, &trace.Spans[i]
		if service := trace.Processes[span.ProcessID].ServiceName; service != "snapshotd" {
			t.Errorf("%s is of the service %q", span.OperationName, service)
		}
	}
	for _, span := range trace.Spans {
		if root := len(span.References) == 0; root != (span.OperationName == "snapshotd.v1.SnapshotService/Save") {
			t.Errorf("%s is a root: %v", span.OperationName, root)
		}
		for _, r := range span.References {
			if r.RefType != "CHILD_OF" || r.TraceID != trace.TraceID || !known[r.SpanID] {
				t.Errorf("%s has a parent that is not in the trace: %+v", span.OperationName, r)
			}
		}
	}
	for _, name := range []string{"snapshot save", "etcd snapshot stream", "snapshot inspect", "snapshot write", "storage put", "catalog update"} {
		if names[name] == nil {
			t.Errorf("the trace has no %q", name)
		}
	}
	if save := names["snapshot save"]; save != nil && (save.Tag("cluster") != "default" || save.Tag("snapshot") != saved.GetName()) {
		t.Errorf("the save has the tags %v, want those of %s", save.Tags, saved.GetName())
	}
	return trace
}

// TestScrapeIsWhatPrometheusWants lets promtool check the scrape, with K3s' names.
func TestScrapeIsWhatPrometheusWants(t *testing.T) {
	w := newWorld(t, 0)
	s := start(t, w.options(), append(w.args(t, ""), "--metrics-prefix", "k3s_")...)
	s.must("save")
	s.must("reconcile")
	for _, name := range []string{"save", "save_local", "save_s3", "reconcile", "reconcile_local", "reconcile_s3"} {
		if n := s.scrape()["k3s_etcd_snapshot_"+name+`_duration_seconds_count{status="success"}`]; n < 1 {
			t.Errorf("%s has %v observations", name, n)
		}
	}
	checkScrape(t, s.get("/metrics"))
}
