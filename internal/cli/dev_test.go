package cli_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/cli"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

// waitTimeout is how long a test waits for something that must happen.
const waitTimeout = time.Minute

// dev is a running `serve --dev`.
type dev struct {
	stdout, stderr testenv.Buffer
	grpc, http     string
	stop           func() (code int) // as SIGTERM does
}

var addresses = regexp.MustCompile(`(?m)^gRPC  (\S+)\nHTTP  http://(\S+) \(the console, in a browser\)$`)

// startDev runs `serve --dev` in dir and waits until it has printed the first steps.
func startDev(t *testing.T, dir string, args ...string) *dev {
	t.Helper()
	d := &dev{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	code := make(chan int, 1)
	go func() {
		code <- cli.Run(ctx, cli.System{
			Stdout: &d.stdout, Stderr: &d.stderr, Getenv: func(string) string { return "" }, Now: time.Now,
		}, append([]string{"serve", "--dev", "--data-dir", dir, "--listen-grpc", "127.0.0.1:0", "--listen-http",
			"127.0.0.1:0"}, args...))
	}()
	d.stop = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("serve --dev:\n%s%s", d.stdout.String(), d.stderr.String())
		}
	})
	for deadline := time.Now().Add(waitTimeout); ; time.Sleep(20 * time.Millisecond) {
		if m := addresses.FindStringSubmatch(d.stdout.String()); m != nil && strings.Contains(d.stdout.String(), "curl") {
			d.grpc, d.http = m[1], m[2]
			return d
		}
		if len(code) > 0 || time.Now().After(deadline) {
			t.Fatalf("serve --dev does not come up:\n%s%s", d.stdout.String(), d.stderr.String())
		}
	}
}

func TestDevShowsASnapshotAndWhatToTry(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dev")
	d := startDev(t, dir)
	if !regexp.MustCompile(`(?m)^on-demand-\S+ +READY +\S+Z +\S+ +[1-9]\d* +[1-9]\d* .* local$`).MatchString(d.stdout.String()) {
		t.Errorf("no READY snapshot is shown:\n%s", d.stdout.String())
	}
	if d.stderr.String() != "" {
		t.Errorf("standard error is not empty:\n%s", d.stderr.String())
	}
	commands := printedCommands(d.stdout.String())
	if len(commands) != 6 {
		t.Fatalf("got commands %q", commands)
	}
	for _, line := range commands {
		if program := strings.Fields(line)[0]; program == "grpcurl" || program == "curl" {
			if _, err := exec.LookPath(program); err != nil {
				t.Logf("not tried, this machine has no %s: %s", program, line)
				continue
			}
		}
		cmd := exec.Command("sh", "-c", line)
		cmd.Env = append(os.Environ(), beSnapshotd+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	if body := scrape(t, d.http); !strings.Contains(body, `etcd_snapshot_save_duration_seconds_count{status="success"}`) {
		t.Errorf("/metrics has no save:\n%s", body)
	}
	if code := d.stop(); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, d.stderr.String())
	}

	again := startDev(t, dir)
	if n := strings.Count(again.stdout.String(), "READY"); n < 2 {
		t.Errorf("the second start shows %d snapshots:\n%s", n, again.stdout.String())
	}
}

func printedCommands(stdout string) []string {
	_, commands, _ := strings.Cut(stdout, "Try, in another shell:\n")
	var out []string
	for line := range strings.Lines(commands) {
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

func scrape(t *testing.T, addr string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
