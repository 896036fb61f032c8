package telemetry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/telemetry"
)

// By default, OpenTelemetry counts all beyond 2,000 series of a metric together, without the labels.
func TestEachOfManyClustersHasItsSeries(t *testing.T) {
	clearEnv(t)
	tel := start(t, telemetry.Config{})
	const clusters = 2500
	for i := range clusters {
		name := fmt.Sprintf("c%04d", i)
		tel.AddCluster(t.Context(), name, []string{"local"})
		tel.Leader(t.Context(), name, true)
	}
	text := scrape(t, tel, "")
	for metric, each := range map[string]int{
		"snapshotd_leader{": 1, "snapshotd_verifications_total{": 6, "snapshotd_saves_total{": 2, "snapshotd_repairs_waiting{": 1,
	} {
		if n := strings.Count(text, "\n"+metric); n != clusters*each {
			t.Errorf("%s has %d series, want %d", metric, n, clusters*each)
		}
	}
	if i := strings.Index(text, "otel_metric_overflow"); i >= 0 {
		t.Errorf("series are counted together: %.200s", text[i-100:])
	}
}
