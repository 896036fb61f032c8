//go:build e2e

package e2e

import (
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
