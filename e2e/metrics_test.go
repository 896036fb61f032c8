//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/snapshotd/snapshotd/internal/testenv"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// TestMetricsAreTrueWhenSavesFail reads the scrape as Prometheus does, after saves and reconciles of which some have
// failed, under our names and under those of K3s.
func TestMetricsAreTrueWhenSavesFail(t *testing.T) {
	for _, prefix := range []string{"", "k3s_"} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			w := newWorld(t, 0)
			args := w.args(t, "")
			if prefix != "" {
				args = append(args, "--metrics-prefix", prefix)
			}
			s := start(t, w.options(), args...)
			eventually(t, "the first reconcile is over", func() bool {
				return s.scrape()[prefix+`etcd_snapshot_reconcile_duration_seconds_count{status="success"}`] > 0
			})
			base := s.scrape()[prefix+`etcd_snapshot_reconcile_duration_seconds_count{status="success"}`]
			checkVerdict(t, s, "not_safe")
			s.must("save")
			checkVerdict(t, s, "attention")
			w.s3.Stop()
			if r := s.run("save"); r.code != 3 {
				t.Fatalf("save with S3 down: exit code %d: %s", r.code, r.stderr)
			}
			if _, r := s.reconcile(); r.code != 3 {
				t.Fatalf("reconcile with S3 down: exit code %d: %s", r.code, r.stderr)
			}
			text, samples := s.get("/metrics"), s.scrape()
			for name, want := range map[string]map[string]float64{
				"save": {"success": 1, "error": 1}, "save_local": {"success": 2}, "save_s3": {"success": 1, "error": 1},
				"reconcile": {"success": base, "error": 1}, "reconcile_local": {"success": base + 1},
				"reconcile_s3": {"success": base, "error": 1},
			} {
				name = prefix + "etcd_snapshot_" + name + "_duration_seconds"
				if !strings.Contains(text, "# TYPE "+name+" histogram\n") {
					t.Errorf("%s is no histogram", name)
				}
				if got := observations(samples, name); !maps.Equal(got, want) {
					t.Errorf("%s has %v observations, want %v", name, got, want)
				}
				checkBuckets(t, samples, name, slices.Collect(maps.Keys(want)))
			}
			if n := samples[`snapshotd_last_success_revision{cluster="default"}`]; n == 0 {
				t.Errorf("snapshotd_last_success_revision is %v", n)
			}
			checkScrape(t, text)
		})
	}
}

// checkVerdict waits until the verdict on the cluster is one, and no other.
func checkVerdict(t *testing.T, s *service, verdict string) {
	t.Helper()
	eventually(t, "the cluster is "+verdict, func() bool {
		samples := s.scrape()
		for _, v := range []string{"safe", "attention", "not_safe", "unknown"} {
			n, ok := samples[`snapshotd_cluster_verdict{cluster="default",verdict="`+v+`"}`]
			if !ok {
				t.Fatalf("there is no verdict %s", v)
			}
			if (n == 1) != (v == verdict) {
				return false
			}
		}
		return true
	})
}

// observations returns the number of observations of a histogram whose only label is status, by status.
func observations(samples map[string]float64, name string) map[string]float64 {
	n := map[string]float64{}
	for series, value := range samples {
		if labels, ok := strings.CutPrefix(series, name+`_count{`); ok {
			n[strings.TrimSuffix(strings.TrimPrefix(labels, `status="`), `"}`)] = value
		}
	}
	return n
}

// checkBuckets holds a histogram against K3s': one label, and fifteen bounds that double from 8 ms, before the last.
func checkBuckets(t *testing.T, samples map[string]float64, name string, statuses []string) {
	t.Helper()
	want := map[string]bool{}
	for _, status := range statuses {
		for bound, i := 0.008, 0; i < 15; bound, i = bound*2, i+1 {
			want[fmt.Sprintf(`%s_bucket{status="%s",le="%v"}`, name, status, bound)] = true
		}
		want[fmt.Sprintf(`%s_bucket{status="%s",le="+Inf"}`, name, status)] = true
	}
	for series := range samples {
		if strings.HasPrefix(series, name+"_bucket{") && !want[series] {
			t.Errorf("there is a bucket %s", series)
		}
	}
	for series := range want {
		if _, ok := samples[series]; !ok {
			t.Errorf("there is no bucket %s", series)
		}
	}
}

// checkScrape lets promtool check the scrape. It complains about metrics of the libraries; the service's own must be
// without complaint.
func checkScrape(t *testing.T, scrape string) {
	t.Helper()
	out, _ := promtool(t, scrape, "check", "metrics")
	for line := range strings.Lines(out) {
		if strings.Contains(line, "etcd_snapshot_") || strings.HasPrefix(line, "snapshotd_") ||
			strings.Contains(line, "error while linting") {
			t.Errorf("promtool: %s", line)
		}
	}
}

// TestTraceOfTheCallerShowsWhichBackendFailed begins a trace as a program would, with S3 down: the spans are one tree
// below the caller's, and the errors are in it where they belong.
func TestTraceOfTheCallerShowsWhichBackendFailed(t *testing.T) {
	w := newWorld(t, 0)
	otlp := testenv.StartOTLP(t)
	s := start(t, w.traced(otlp), w.args(t, "")...)
	s.must("save")
	w.s3.Stop()
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-"+caller+"-01")
	_, err := s.client().Save(ctx, &snapshotdv1.SaveRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Fatalf("save with S3 down: %v", err)
	}

	// A parent ends after its children, so when the span of the call is there, and all parents are, everything is.
	const call = "snapshotd.v1.SnapshotService/Save"
	var spans map[string]testenv.Span
	eventually(t, "the trace is whole", func() bool {
		spans = map[string]testenv.Span{}
		called := false
		for _, sp := range otlp.Spans() {
			if sp.TraceID == trace {
				spans[sp.SpanID] = sp
				called = called || sp.Name == call && sp.ParentID == caller
			}
		}
		for _, sp := range spans {
			_, known := spans[sp.ParentID]
			called = called && (known || sp.ParentID == caller)
		}
		return called
	})
	within := func(sp testenv.Span, name string) bool {
		for ; sp.SpanID != ""; sp = spans[sp.ParentID] {
			if sp.Name == name {
				return true
			}
		}
		return false
	}
	failed := map[string]bool{} // by name, and by name and backend
	seen := map[string]bool{}
	for _, sp := range spans {
		for _, name := range []string{sp.Name, sp.Name + " " + sp.Attributes["backend"]} {
			seen[name] = true
			failed[name] = failed[name] || sp.Error != ""
		}
		if sp.Name == "storage put" || sp.Name == "etcd snapshot stream" {
			if !within(sp, "snapshot save") || !within(sp, call) {
				t.Errorf("%s is not below the save", sp.Name)
			}
		}
	}
	// The marker of the store is read first, and that is where the write to S3 ended.
	for name, want := range map[string]bool{
		call: true, "snapshot save": true, "storage get s3": true,
		"etcd snapshot stream": false, "storage get local": false, "storage put local": false, "catalog update": false,
	} {
		if !seen[name] || failed[name] != want {
			t.Errorf("%s: there is one: %v; with an error: %v, want %v", name, seen[name], failed[name], want)
		}
	}
	if seen["storage put s3"] {
		t.Error("there was a write to a store whose marker could not be read")
	}
}
