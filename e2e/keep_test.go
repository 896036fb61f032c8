//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// The only backend is a bucket that is down: the snapshot is kept on the replica's disk, over kill -9, and brought to
// the bucket when it is back.
func TestWhatTheBucketDidNotTakeIsBroughtThereLater(t *testing.T) {
	w := newWorld(t, 1<<20)
	args := []string{
		"--etcd-endpoints", strings.Join(w.etcd.Endpoints(), ","), "--data-dir", t.TempDir(), "--node-name", "node-1",
		"--backend", "s3=" + w.s3URL(""),
	}
	first := start(t, w.options(), args...)
	w.s3.Stop()
	r := first.run("save", "--name-prefix", "kept")
	if r.code != 1 || !strings.Contains(r.stderr, "kept on node-1 alone, until a backend takes it") {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	first.kill()
	w.s3.Start()
	begin := time.Now()
	second := start(t, w.options(), args...)
	eventually(t, "the snapshot is brought to the bucket", func() bool {
		l := second.list()
		return len(l) == 1 && l[0].State == "STATE_READY"
	})
	t.Logf("READY %v after the start", time.Since(begin).Round(time.Second))
	w.whole(t, "s3", second.list()[0])
}

// The service is killed when the snapshot is on its disk and the outcome is not in the catalog, which goes on saying
// SAVING: nobody but the disk tells of the snapshot.
func TestWhatTheBucketDidNotTakeIsNotLostWithItsOutcome(t *testing.T) {
	w := newWorld(t, 1<<20)
	config := writeConfig(t, `
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    lock_ttl: 2s
    backends:
      - {name: s3, url: %q}
`, w.etcd.Endpoints()[0], w.s3URL(""))
	o := w.options()
	o.tags = "faultpoints"
	doomed := o
	doomed.env = append(doomed.env[:len(doomed.env):len(doomed.env)], "SNAPSHOTD_FAULT_POINT=concluded")
	victim := start(t, doomed, "--config", config)
	w.s3.Stop()
	if r := victim.run("save"); r.code == 0 {
		t.Fatalf("the save went through: %s", r.stdout)
	}
	<-victim.done
	second := start(t, o, "--config", config)
	eventually(t, "the record says where the snapshot is", func() bool {
		l := second.list()
		return len(l) == 1 && l[0].State == "STATE_FAILED" && strings.Contains(l[0].Error, "kept on node-1 until a backend takes it")
	})
	w.s3.Start()
	eventually(t, "the snapshot is brought to the bucket", func() bool {
		l := second.list()
		return len(l) == 1 && l[0].State == "STATE_READY"
	})
	w.whole(t, "s3", second.list()[0])
}
