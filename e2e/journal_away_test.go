//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestAnS3ThatIsAway cuts off the only backend, for SNAPSHOTD_AWAY_SECONDS (10 by default). A cluster is changed and compacted
// meanwhile, so that the disk of the service alone has its history. Nothing of that is lost.
func TestAnS3ThatIsAway(t *testing.T) {
	t.Parallel()
	s3 := testenv.StartS3(t)
	s3.MakeBucket("snapshots")
	proxy := testenv.StartProxy(t, s3.Addr())
	f := followTo(t, t.TempDir(), map[string]string{"default": s3.URLAt(proxy.Addr(), "snapshots", "")}, options{env: s3.Env()})
	c := f.clusters[0]
	proxy.Cut()
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	away := time.Duration(envInt(t, "SNAPSHOTD_AWAY_SECONDS", 10)) * time.Second
	for end := time.Now().Add(away); time.Now().Before(end); <-pace.C {
		c.put("meanwhile", 1)
	}
	eventually(t, "the service has all changes on its disk", func() bool {
		return f.serve.scrape()[`snapshotd_journal_revision{cluster="default"}`] >= float64(c.last)
	})
	c.compact()
	last, on := c.last, f.serve.scrape()[`snapshotd_journal_local_bytes{cluster="default"}`]
	age, _ := f.serve.rpo("store")
	proxy.Restore()
	back := time.Now()
	for f.window("default").timeline("").last() < last {
		if time.Since(back) > waitTimeout+away {
			t.Fatalf("%s after the backend is back, it does not have all", time.Since(back))
		}
		<-pace.C
	}
	t.Logf("%d revisions, %.0f bytes on the disk, and the backend %s behind; it has all %s after it was back", len(c.values), on,
		age.Round(time.Second), time.Since(back).Round(time.Second))
	f.goesOn()
	f.nothingLost("default")
	c.restored(last-1, 1) // before the compaction
}
