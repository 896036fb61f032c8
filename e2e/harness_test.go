//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/snapshotd/snapshotd/internal/testenv"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// patience is how long a test waits for something that must happen.
const patience = 2 * time.Minute

var (
	buildMu sync.Mutex
	built   = map[string]string{}
)

// program builds snapshotd, with the given build tags, and returns its path.
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
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "./cmd/snapshotd")
	cmd.Dir = testenv.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build snapshotd: %v\n%s", err, out)
	}
	built[tags] = path
	return path
}

func TestMain(m *testing.M) {
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
	tags string
	env  []string
	uid  int // run as this user when not 0
}

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
	s := &service{t: t, path: program(t, o.tags), done: make(chan struct{}), log: &testenv.Buffer{}}
	args = append([]string{"serve", "--listen-grpc", "127.0.0.1:0", "--listen-http", "127.0.0.1:0", "--log-format", "json"}, args...)
	s.cmd = exec.Command(s.path, args...)
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

// client speaks gRPC to the service.
func (s *service) client() snapshotdv1.SnapshotServiceClient {
	s.t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return snapshotdv1.NewSnapshotServiceClient(conn)
}

// result is what a command said.
type result struct {
	stdout, stderr string
	code           int
}

// run runs a client verb against the service.
func (s *service) run(args ...string) result {
	s.t.Helper()
	return s.runContext(context.Background(), args...)
}

func (s *service) runContext(ctx context.Context, args ...string) result {
	s.t.Helper()
	return command(ctx, s.t, s.path, append(args, "--addr", s.grpc)...)
}

// must runs a client verb that has to exit with code 0 and returns its standard output.
func (s *service) must(args ...string) string {
	s.t.Helper()
	r := s.run(args...)
	if r.code != 0 {
		s.t.Fatalf("snapshotd %v: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

func command(ctx context.Context, t *testing.T, path string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(ctx, path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s %v: %v", path, args, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// snap is a snapshot as JSON output shows it.
type snap struct {
	Name            string
	State           string
	CreateTime      time.Time
	Labels          map[string]string
	Error           string
	Revision        int64 `json:",string"`
	TotalKeys       int64 `json:",string"`
	DbSizeBytes     int64 `json:",string"`
	StoredSizeBytes int64 `json:",string"`
	Sha256          string
	StoredSha256    string
	Hash            uint32

	EncryptionRecipients []string
	Verification         struct {
		Level, State, Error string
		Time                time.Time
	}
	Locations []location
}

type location struct {
	Backend, Kind, Uri, State, Error string
	SizeBytes                        int64 `json:",string"`
}

// list returns all snapshots of the catalog.
func (s *service) list() []snap {
	s.t.Helper()
	var l struct{ Snapshots []snap }
	decode(s.t, s.must("list", "-o", "json"), &l)
	return l.Snapshots
}

type reconciliation struct {
	Backends []struct {
		Backend                                                              string
		Listed, Unchanged, Added, Updated, Removed, Repaired, Swept, Foreign int64 `json:",string"`
		Error                                                                *struct{ Message string }
	}
}

func (s *service) reconcile(args ...string) (reconciliation, result) {
	s.t.Helper()
	r := s.run(append([]string{"reconcile", "-o", "json"}, args...)...)
	var rec reconciliation
	if r.stdout != "" {
		decode(s.t, r.stdout, &rec)
	}
	return rec, r
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
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %s, %v\n%s", path, resp.Status, err, b)
	}
	return string(b)
}

// rssAnon returns the service's anonymous memory in bytes.
func (s *service) rssAnon() int64 {
	s.t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if rest, ok := strings.CutPrefix(sc.Text(), "RssAnon:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// eventually waits until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
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
