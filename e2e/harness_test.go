//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/internal/testenv/simetcd"
)

// waitTimeout is how long a test waits for something that must happen.
const waitTimeout = 2 * time.Minute

var (
	buildMu sync.Mutex
	built   = map[string]string{}
)

// program builds snapshotd as it is released, with the given build tags, and returns its path.
func program(t *testing.T, tags string) string {
	t.Helper()
	buildMu.Lock()
	defer buildMu.Unlock()
	if p, ok := built[tags]; ok {
		return p
	}
	dir, err := os.MkdirTemp("", "snapshotd-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "snapshotd")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", tags, "-o", path, "./cmd/snapshotd")
	cmd.Dir = testenv.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build snapshotd: %v\n%s", err, out)
	}
	built[tags] = path
	return path
}

func TestMain(m *testing.M) {
	simetcd.Main()
	for _, v := range testenv.S3Env() {
		if secret, ok := strings.CutPrefix(v, "AWS_SECRET_ACCESS_KEY="); ok {
			plant(secret)
		}
	}
	code := m.Run()
	for _, p := range built {
		_ = os.RemoveAll(filepath.Dir(p))
	}
	os.Exit(code)
}

// service is a running `snapshotd serve`.
type service struct {
	t          *testing.T
	path       string
	cmd        *exec.Cmd
	done       chan struct{}
	log        *testenv.Buffer
	grpc, http string
}

type options struct {
	tags   string
	env    []string
	uid    int    // run as this user when not 0
	binary string // path of another version's program; this one's when empty
	files  int    // how many files it may have open when not 0
	umask  string // that it is started with; this process's when empty
}

// under is a script that runs the program and arguments behind it with a umask.
func under(umask string) string { return fmt.Sprintf(`umask %s && exec "$0" "$@"`, umask) }

// start runs `snapshotd serve` with these arguments on free ports and waits until it serves. It is killed when the test
// ends.
func start(t *testing.T, o options, args ...string) *service {
	t.Helper()
	s := launch(t, o, args...)
	s.waitReady()
	return s
}

// launch runs `snapshotd serve` and does not wait.
func launch(t *testing.T, o options, args ...string) *service {
	t.Helper()
	s := &service{t: t, path: o.binary, done: make(chan struct{}), log: &testenv.Buffer{}}
	if s.path == "" {
		s.path = program(t, o.tags)
	}
	args = append([]string{
		"serve", "--listen-grpc", "127.0.0.1:0", "--listen-http", "127.0.0.1:0", "--log-format", "json",
	}, args...)
	plantAll(o.env, args)
	s.cmd = exec.Command(s.path, args...)
	if o.files != 0 {
		limited := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, o.files)
		s.cmd = exec.Command("sh", append([]string{"-c", limited, s.path}, args...)...)
	}
	if o.umask != "" {
		s.cmd = exec.Command("sh", append([]string{"-c", under(o.umask), s.path}, args...)...)
	}
	s.cmd.Env = append(os.Environ(), o.env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if o.uid != 0 {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.uid)}}
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.kill()
		printsNoSecret(t, "the service", s.log.String())
		if t.Failed() {
			t.Logf("service %v:\n%s", args, tail(s.log.String(), 8000))
		}
	})
	return s
}

// waitReady waits for the line that names the addresses.
func (s *service) waitReady() {
	s.t.Helper()
	eventually(s.t, "the service is ready", func() bool {
		select {
		case <-s.done:
			s.t.Fatalf("the service ended: %s", tail(s.log.String(), 4000))
		default:
		}
		for line := range strings.Lines(s.log.String()) {
			var l struct{ Msg, GRPC, HTTP string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "server is ready" {
				s.grpc, s.http = l.GRPC, l.HTTP
				return true
			}
		}
		return false
	})
}

// kill is kill -9.
func (s *service) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// end is the signal with which a machine stops a service, which then stores what it has.
func (s *service) end() {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(waitTimeout):
		s.t.Errorf("the service did not end within %s", waitTimeout)
		s.kill()
	}
}

func decode(t *testing.T, doc string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(doc), v); err != nil {
		t.Fatalf("decode %q: %v", tail(doc, 500), err)
	}
}

// scrape returns the samples of /metrics by their full name with labels.
func (s *service) scrape() map[string]float64 {
	s.t.Helper()
	samples := map[string]float64{}
	for line := range strings.Lines(s.get("/metrics")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			v, err := strconv.ParseFloat(value, 64)
			if err == nil {
				samples[name] = v
			}
		}
	}
	return samples
}

func (s *service) get(path string) string {
	s.t.Helper()
	resp, err := http.Get("http://" + s.http + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	printsNoSecret(s.t, path, string(b))
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %s, %v\n%s", path, resp.Status, err, b)
	}
	return string(b)
}

// eventually waits until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitTimeout)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, waitTimeout)
		}
		time.Sleep(20 * time.Millisecond) // polling with a deadline; nothing is concluded from time
	}
}

// envInt returns a number from the environment.
func envInt(t *testing.T, name string, def int64) int64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// replaceFile writes a file anew, at once.
func replaceFile(t *testing.T, path, content string) {
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Error(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Error(err)
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
