//go:build e2e

package e2e

import (
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestRepairKilledAtEveryStepIsFinishedByTheNextOne kills a repair at each of its fault points, with kill -9.
func TestRepairKilledAtEveryStepIsFinishedByTheNextOne(t *testing.T) {
	w := newWorld(t, 0)
	proxy := testenv.StartProxy(t, w.s3.Addr())
	config := writeConfig(t, `
reconcile_interval: 1h
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    lock_ttl: 2s
    backends:
      - {name: local, url: %q}
      - {name: s3, url: %q}
`, w.etcd.Endpoints()[0], "file://"+w.dir, w.s3URL(proxy.Addr()))
	o := w.options()
	o.tags = "faultpoints"
	for _, step := range []string{"repair-data", "repair-manifest", "repair-recorded"} {
		t.Run(step, func(t *testing.T) {
			doomed := o
			doomed.env = append(doomed.env[:len(doomed.env):len(doomed.env)], "SNAPSHOTD_FAULT_POINT="+step)
			victim := start(t, doomed, "--config", config)
			proxy.Cut()
			if r := victim.run("save"); r.code != 3 {
				t.Fatalf("save without S3: exit code %d: %s%s", r.code, r.stdout, r.stderr)
			}
			proxy.Restore()
			if r := victim.run("reconcile", "--repair"); r.code == 0 {
				t.Fatalf("the repair went through: %s", r.stdout)
			}
			<-victim.done
			survivor := start(t, o, "--config", config)
			if rec, r := survivor.reconcile("--repair"); r.code != 0 {
				t.Fatalf("reconcile: exit code %d: %s, %+v", r.code, r.stderr, rec)
			}
			for _, sn := range survivor.list() {
				if sn.State != "STATE_READY" {
					t.Errorf("%s is %s: %s", sn.Name, sn.State, sn.Error)
				}
			}
			w.settled(t, survivor)
			survivor.kill()
		})
	}
}
