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

// TestClustersComeAndGoWithoutARestart: files of clusters are added, changed and removed under a service that saves
// another cluster all the time. That save goes on, and its cluster is changed when it has ended.
func TestClustersComeAndGoWithoutARestart(t *testing.T) {
	w, other := newWorld(t, 4<<20), newWorld(t, 0)
	second := t.TempDir()
	file := writeConfig(t, "clusters_dir: clusters.d\nreconcile_interval: 24h\n"+
		"clusters:\n  - name: slow\n    etcd: {endpoints: [%q]}\n    stream_limit: 256KiB\n    backends: [{name: local, url: \"file://%s\"}]\n",
		w.etcd.Endpoints()[0], w.dir)
	dir := filepath.Join(filepath.Dir(file), "clusters.d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	added := func(more string) string {
		return fmt.Sprintf("etcd: {endpoints: [%q]}\nbackends:\n  - {name: local, url: \"file://%s\"}\n%s", other.etcd.Endpoints()[0],
			other.dir, more)
	}
	s := start(t, w.options(), "--config", file)
	logged := func(what string) {
		t.Helper()
		eventually(t, "the log has "+what, func() bool { return strings.Contains(s.log.String(), what) })
	}
	saved := make(chan result, 1)
	go func() { saved <- s.run("save", "--cluster", "slow") }()
	eventually(t, "the save is under way", func() bool { return strings.Contains(s.run("status").stdout, " of ") })

	replaceFile(t, filepath.Join(dir, "b.yaml"), added(""))
	logged(`"cluster is in effect","cluster":"b","backends":"local"`)
	s.must("save", "--cluster", "b")
	replaceFile(t, filepath.Join(dir, "b.yaml"), added(fmt.Sprintf("  - {name: second, url: \"file://%s\"}\n", second)))
	logged(`"cluster":"b","backends":"local,second"`)
	s.must("save", "--cluster", "b", "--name-prefix", "both")
	if files, err := filepath.Glob(filepath.Join(second, "b", "both-*.db.zst")); err != nil || len(files) != 1 {
		t.Errorf("the new backend has %v, %v", files, err)
	}
	wrong := filepath.Join(dir, "c.yaml")
	writeOver(t, wrong, added("compression: rar\n"))
	logged("clusters.d/c.yaml:4: clusters[2].compression")
	writeOver(t, wrong, strings.Replace(added(""), other.dir, t.TempDir(), 1))
	logged(`"cluster is in effect","cluster":"c"`)
	if err := os.Remove(wrong); err != nil {
		t.Fatal(err)
	}
	logged(`"cluster is removed","cluster":"c"`)

	replaceFile(t, filepath.Join(dir, "b.yaml"), added("compression: rar\n"))
	logged("clusters.d/b.yaml:4: clusters[1].compression")
	s.must("list", "--cluster", "b")
	if !strings.Contains(s.get("/metrics"), `cluster="b"`) {
		t.Error("the metrics know nothing of b")
	}
	if err := os.Remove(filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	logged(`"cluster is removed","cluster":"b"`)
	if r := s.run("list", "--cluster", "b"); r.code != 6 || !strings.Contains(r.stderr, "no cluster") {
		t.Errorf("b is still there: exit code %d, %s", r.code, r.stderr)
	}
	if strings.Contains(s.get("/metrics"), `cluster="b"`) {
		t.Error("the metrics still have b")
	}

	slow := func(more string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Replace(string(b), "    stream_limit: 256KiB\n", more, 1)
	}
	replaceFile(t, file, slow("    compression: none\n"))
	logged("its change waits for the end of the save\",\"cluster\":\"slow\"")
	if r := <-saved; r.code != 0 {
		t.Errorf("the save that was under way: exit code %d\n%s", r.code, r.stderr)
	}
	logged(`"cluster is in effect","cluster":"slow"`)
	s.must("save", "--name-prefix", "plain")
	if files, err := filepath.Glob(filepath.Join(w.dir, "slow", "plain-*.db")); err != nil || len(files) != 1 {
		t.Errorf("the change is not in effect: %v, %v", files, err)
	}
}

// TestLimitsAreReadAgain changes the file under a service that runs, for better and for worse.
func TestLimitsAreReadAgain(t *testing.T) {
	w := newWorld(t, 0)
	file := filepath.Join(t.TempDir(), "snapshotd.yaml")
	write := func(more string) {
		t.Helper()
		replaceFile(t, file, fmt.Sprintf("node_name: node-1\ndata_dir: %s\nclusters:\n  - etcd: {endpoints: [%q]}\n    backends: [{name: "+
			"local, url: \"file://%s\"}, {name: s3, url: %q}]\n%s",
			filepath.Dir(file), w.etcd.Endpoints()[0], w.dir, w.s3URL(""), more))
	}
	write("    stream_limit: 64KiB\n    upload_limit: 64KiB\n")
	s := start(t, w.options(), "--config", file)
	for _, step := range []struct{ more, logged string }{
		{"    stream_limit: 300MB\n",
			`"limits are in effect","cluster":"default","stream_limit":"300MB per second","upload_limit":"none"`},
		{"    stream_limit: fast\n", `\"fast\" is not a number of bytes per second`},
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
	if n := strings.Count(s.log.String(), "limits are in effect"); n != 2 {
		t.Errorf("limits came into effect %d times, want 2: the wrong file changes nothing", n)
	}
	if strings.Contains(s.log.String(), "cluster is in effect") {
		t.Error("a limit has made the cluster anew")
	}
}

// TestSettingsAreReadAgain changes settings of the whole service under one that runs.
func TestSettingsAreReadAgain(t *testing.T) {
	w := newWorld(t, 0)
	file := filepath.Join(t.TempDir(), "snapshotd.yaml")
	write := func(more string) {
		t.Helper()
		replaceFile(t, file, fmt.Sprintf("%snode_name: node-1\ndata_dir: %s\nclusters:\n  - etcd: {endpoints: [%q]}\n"+
			"    backends: [{name: local, url: \"file://%s\"}]\n", more, filepath.Dir(file), w.etcd.Endpoints()[0], w.dir))
	}
	write("")
	s := start(t, w.options(), "--config", file)
	s.must("save")
	write("log: {level: debug, format: json}\nlimits: {saves_per_minute: 1}\ntrace_url: \"https://jaeger.example/{trace_id}\"\n" +
		"reconcile_interval: 1s\nmax_concurrent_saves: 7\nmax_concurrent_drills: 3\nshutdown_timeout: 7s\nmetrics_prefix: k3s_\n")
	for _, line := range []string{
		`"settings are in effect","keys":"limits.saves_per_minute, reconcile_interval, max_concurrent_saves, ` +
			`max_concurrent_drills, shutdown_timeout, log.level, trace_url"`,
		`"saves":7,"restores":3,"drills":3`, `keys that take effect after a restart","keys":"metrics_prefix"`,
	} {
		eventually(t, "the log has "+line, func() bool { return strings.Contains(s.log.String(), line) })
	}
	s.must("save")
	if r := s.run("save"); r.code == 0 || !strings.Contains(r.stderr, "limits.saves_per_minute") {
		t.Errorf("a second save within a minute: exit code %d, %s", r.code, r.stderr)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "default", "mine.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.must("reconcile")
	if !strings.Contains(s.log.String(), `"level":"DEBUG"`) {
		t.Error("the log has no line of the new level")
	}
	if page := s.get("/console/service"); !strings.Contains(page, "https://jaeger.example/{trace_id}") {
		t.Errorf("the console is not told where traces are shown: %s", page)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the service stops with its new timeout", func() bool {
		return strings.Contains(s.log.String(), `"server is stopping","timeout":7000000000`)
	})
}

// writeOver writes into a file that may be there, which does not change its directory's time.
func writeOver(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
