//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLimitsAreReadAgain changes the file under a service that runs, for better and for worse.
func TestLimitsAreReadAgain(t *testing.T) {
	w := newWorld(t, 0)
	file := filepath.Join(t.TempDir(), "snapshotd.yaml")
	write := func(more string) {
		t.Helper()
		doc := fmt.Sprintf("node_name: node-1\ndata_dir: %s\nclusters:\n  - etcd: {endpoints: [%q]}\n    backends: [{name: "+
			"local, url: \"file://%s\"}, {name: s3, url: %q}]\n%s",
			filepath.Dir(file), w.etcd.Endpoints()[0], w.dir, w.s3URL(""), more)
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("    stream_limit: 64KiB\n    upload_limit: 64KiB\n")
	s := start(t, w.options(), "--config", file)
	for _, step := range []struct{ more, logged string }{
		{"    stream_limit: 300MB\n",
			`"limits are in effect","cluster":"default","stream_limit":"300MB per second","upload_limit":"none"`},
		{"    stream_limit: fast\n", `\"fast\" is not a number of bytes per second`},
		{"    upload_limit: 1GiB\n    compression: none\n", "differs in more than stream_limit, upload_limit and access"},
		{"    upload_limit: 2GiB\n", `"stream_limit":"none","upload_limit":"2GiB per second"`},
	} {
		write(step.more)
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("after %q the log has %s", step.more, step.logged), func() bool {
			return strings.Contains(s.log.String(), step.logged)
		})
	}
	s.must("save")
	if n := strings.Count(s.log.String(), "limits are in effect"); n != 3 {
		t.Errorf("limits came into effect %d times, want 3: the wrong file changes nothing", n)
	}
}
