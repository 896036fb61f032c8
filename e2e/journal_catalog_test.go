//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestTheJournalGoesOnWithoutItsCatalog deletes the catalog from etcd: first under a service, then while it is away, and the
// disk of the service with it. The timeline goes on without a gap, all of it can be restored, and what was proven is proven
// anew.
func TestTheJournalGoesOnWithoutItsCatalog(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	f := follow(t, data, "default")
	c := f.clusters[0]
	line := c.window.timeline("").Name
	before := c.last
	f.serve.save()
	f.proven("before the catalog is lost")
	for _, lose := range []func(){
		func() { c.loseCatalog() },
		func() {
			f.serve.end()
			c.loseCatalog()
			if err := errors.Join(os.RemoveAll(data), os.Mkdir(data, 0o700)); err != nil {
				t.Fatal(err)
			}
			f.serve = start(t, f.options, "--config", f.file)
		},
	} {
		lose()
		eventually(t, "the catalog is made anew", func() bool { return f.serve.run("reconcile").code == 0 && len(f.serve.list()) > 1 })
		f.goesOn()
		if w := c.window.Window; w.Timelines[0].Name != line {
			t.Errorf("the timeline %s has ended: %+v", line, w)
		}
	}
	f.proven("after the catalog was lost twice")
	f.nothingLost("default")
	c.restored(before, 1)
	for name, value := range c.metrics {
		if strings.HasPrefix(name, "snapshotd_journal_proofs_total{") && strings.Contains(name, `status="error"`) && value > 0 {
			t.Errorf("%s is %v", name, value)
		}
	}
}

// loseCatalog deletes all that a service has in etcd.
func (c *written) loseCatalog() {
	c.t.Helper()
	resp, err := c.client.Delete(c.t.Context(), "/snapshotd/", clientv3.WithPrefix())
	if err != nil || resp.Deleted == 0 {
		c.t.Fatalf("delete the catalog: %v, %v", resp, err)
	}
}

// proven waits until the journal before the newest snapshot was checked.
func (f *following) proven(when string) {
	f.t.Helper()
	eventually(f.t, fmt.Sprintf("%s, the journal before the newest snapshot is proven", when), func() bool {
		var found struct {
			Window struct {
				Snapshots []struct{ JournalProof struct{ State string } }
			}
		}
		decode(f.t, f.serve.windowJSON(), &found)
		all := found.Window.Snapshots
		return len(all) > 1 && all[0].JournalProof.State == "STATE_PASSED"
	})
}
