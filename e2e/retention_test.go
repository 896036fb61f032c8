//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// The leader prunes by itself, each backend by its own rules, and a backend that is down does not keep the others from
// it.
func TestLeaderPrunesByItself(t *testing.T) {
	w := newWorld(t, 0)
	config := writeConfig(t, `
reconcile_interval: 1s
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    retention: {keep_last: 1, on_demand: true}
    backends:
      - {name: local, url: %q}
      - {name: s3, url: %q, retention: {keep_last: 3, on_demand: true}}
`, w.etcd.Endpoints()[0], "file://"+w.dir, w.s3URL(""))
	s := start(t, w.options(), "--config", config)
	var names []string
	for range 5 {
		names = append(names, s.save())
	}
	both := map[string]string{
		names[4]: "READY: local READY, s3 READY", names[3]: "READY: s3 READY", names[2]: "READY: s3 READY",
	}
	eventually(t, "the leader prunes both backends", func() bool {
		got := s.locations()
		for name, want := range both {
			if got[name] != want {
				return false
			}
		}
		return len(got) == len(both)
	})
	if out := s.must("prune", "--dry-run"); strings.Contains(out, "would go  ") || strings.Count(out, ": 0 would go (") != 2 || strings.Count(out, "stays") != 4 {
		t.Errorf("after the leader has pruned there is more to do:\n%s", out)
	}

	s.must("update", names[4], "--pin")
	w.s3.Stop()
	for range 5 {
		if r := s.run("save"); r.code != 3 {
			t.Fatalf("a save without S3: exit code %d: %s", r.code, r.stderr)
		}
	}
	eventually(t, "the directory is pruned while S3 is down", func() bool {
		return len(w.files(t)) == 8 // the newest, the two more that S3 still has to get and will keep, and the pinned one
	})
}
