//go:build e2e

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestTheDemoStarts: three clusters, each with a first snapshot on both backends, an alert manager's rules in
// Prometheus, and nothing left when it was stopped.
func TestTheDemoStarts(t *testing.T) {
	bin := t.TempDir()
	for name, path := range map[string]string{
		"server":     testenv.Tool(t, "servers", "go.etcd.io/etcd/server/v3"),
		"versitygw":  testenv.Tool(t, "servers", "github.com/versity/versitygw/cmd/versitygw"),
		"prometheus": testenv.Tool(t, "prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
		"snapshotd":  program(t, ""),
	} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	base := freePorts(t)
	cmd := exec.Command(filepath.Join(testenv.Root(), "deploy", "demo", "run"))
	tmp := t.TempDir()
	opened := filepath.Join(t.TempDir(), "opened")
	cmd.Env = append(os.Environ(), "DEMO_BIN="+bin, "BASE="+strconv.Itoa(base), "TMPDIR="+tmp,
		"DISPLAY=:9", "PATH="+browserThatFails(t, opened)+":"+os.Getenv("PATH"))
	out := &testenv.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the group that was made for it
		<-done
		if t.Failed() {
			t.Logf("the demo: %s", out.String())
		}
	})
	eventually(t, "the demo is ready", func() bool {
		select {
		case <-done:
			t.Fatalf("it has ended: %s", out.String())
		default:
		}
		return strings.Contains(out.String(), "the console     http://127.0.0.1:"+strconv.Itoa(base+1))
	})
	eventually(t, "the console is opened", func() bool {
		url, _ := os.ReadFile(opened)
		return string(url) == "http://127.0.0.1:"+strconv.Itoa(base+1)+"/\n"
	})
	s := &service{t: t, path: filepath.Join(bin, "snapshotd"), grpc: "127.0.0.1:" + strconv.Itoa(base), http: "127.0.0.1:" + strconv.Itoa(base+1)}
	for _, cluster := range []string{"berlin", "lisbon", "oslo"} {
		eventually(t, "a first snapshot of "+cluster, func() bool {
			return strings.Contains(s.run("list", "--cluster", cluster).stdout, "READY")
		})
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-done
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("it has left %v, %v", left, err)
	}
	if conn, err := net.Dial("tcp", s.http); err == nil {
		_ = conn.Close()
		t.Error("the service still runs")
	}
}

// browserThatFails returns a directory with a program that opens pages on a desktop: it writes down which one, and fails.
func browserThatFails(t *testing.T, opened string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := "#!/bin/sh\necho \"$1\" >'" + opened + "'\nexit 3\n"
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// freePorts returns a port after which some more are free, as far as can be known.
func freePorts(t *testing.T) int {
	t.Helper()
	const room = 20
	for base := 20000; base < 60000; base += room {
		free := true
		for port := base; free && port < base+room; port++ {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if free = err == nil; free {
				_ = l.Close()
			}
		}
		if free {
			return base
		}
	}
	t.Fatal("there are no free ports")
	return 0
}
