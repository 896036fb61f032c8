//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The three levels with a real etcd, a directory and a bucket; a byte that is flipped in the bucket; a scrub by
// schedule.
func TestVerifyProvesAndFindsDamage(t *testing.T) {
	w := newWorld(t, 4<<20)
	config := writeConfig(t, `
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    scrub: {cron: "@every 1s", drill: true}
    backends:
      - {name: local, url: %q}
      - {name: s3, url: %q}
`, w.etcd.Endpoints()[0], "file://"+w.dir, w.s3URL(""))
	s := start(t, w.options(), "--config", config)
	name := s.save()
	for level, want := range map[string]string{
		"checksum": "on local, s3: sizes and checksums are right", "structure": "every page and key was read",
		"drill": "the same as the live cluster's",
	} {
		if out := s.must("verify", "latest", "--level", level); !strings.Contains(out, want) || !strings.Contains(out, name) {
			t.Errorf("%s: %s", level, out)
		}
	}
	eventually(t, "the scrub drills, and the metric says so", func() bool {
		m := s.scrape()
		return m[`snapshotd_schedule_runs_total{cluster="default",result="success",schedule="@scrub"}`] > 0 &&
			m[`snapshotd_last_proven_restore_timestamp_seconds{cluster="default"}`] > 0
	})

	path := filepath.Join(w.s3.Dir(), w.bucket, "etcd", "default", name+".db.zst")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.run("verify", name, "--backend", "local"); r.code != 0 {
		t.Errorf("of the good copy: exit code %d: %s", r.code, r.stderr)
	}
	if r := s.run("verify", name, "--backend", "s3"); r.code != 4 || !strings.Contains(r.stderr, "copy is damaged") {
		t.Errorf("of the damaged copy: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if out := s.must("get", name, "-o", "json"); !strings.Contains(out, `"STATE_PARTIAL"`) ||
		!strings.Contains(out, "damaged") {
		t.Errorf("after it: %s", out)
	}
	if _, r := s.reconcile("--repair"); r.code != 0 {
		t.Fatalf("repair: exit code %d: %s", r.code, r.stderr)
	}
	if r := s.run("verify", name, "--backend", "s3"); r.code != 0 {
		t.Errorf("after the repair: exit code %d: %s", r.code, r.stderr)
	}
}
