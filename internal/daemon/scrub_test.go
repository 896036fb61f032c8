package daemon

import (
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/config"
)

// The clusters of a fleet have one cron, from the defaults.
func TestAScrubHasTheJitterOfItsConfiguration(t *testing.T) {
	cfg := &config.Cluster{Scrub: config.Scrub{Cron: "@weekly", Jitter: 2 * time.Hour, Drill: true}}
	scrubs, err := scrubsOf(cfg, nil)
	if err != nil || len(scrubs) != 1 || scrubs[0].Jitter != 2*time.Hour {
		t.Errorf("the scrubs are %+v, %v", scrubs, err)
	}
}
