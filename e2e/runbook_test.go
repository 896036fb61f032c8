//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// runbook follows docs/disaster.md on machines that are addresses of the loopback interface and directories.
type runbook struct {
	*world
	t        *testing.T
	doc      string
	path     string // of programs
	root     string // where each machine has its directory
	running  map[string]*exec.Cmd
	serve    *service
	backends []string
	journal  bool // the service follows the cluster
}

const allMembers = "m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m3=https://10.0.0.3:2380"

// TestRunbook follows docs/disaster.md, command by command as they are written there, except for addresses, directories
// and the location of the snapshots.
func TestRunbook(t *testing.T) {
	b := newRunbook(t, false)
	t.Run("One member is lost", b.oneMember)
	t.Run("The quorum is lost, and a member still answers", b.quorum)
	t.Run("Wrong data was written", b.wrongData)
	t.Run("The bucket is lost", b.bucketLost)
	t.Run("On new machines", b.newMachines)
}

func newRunbook(t *testing.T, journal bool) *runbook {
	doc, err := os.ReadFile(filepath.Join(testenv.Root(), "docs", "disaster.md"))
	if err != nil {
		t.Fatal(err)
	}
	b := &runbook{
		world: &world{s3: testenv.StartS3(t), dir: t.TempDir(), bucket: "snapshots"},
		t:     t, doc: string(doc), path: t.TempDir(), root: t.TempDir(), running: map[string]*exec.Cmd{},
		journal: journal,
	}
	b.s3.MakeBucket(b.bucket)
	b.backends = []string{"--backend", "local=file://" + b.dir, "--backend", "s3=" + b.s3URL("")}
	for name, target := range map[string]string{
		"etcd":      testenv.Tool(t, "servers", "go.etcd.io/etcd/server/v3"),
		"etcdctl":   testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdctl/v3"),
		"snapshotd": program(t, ""),
	} {
		if err := os.Symlink(target, filepath.Join(b.path, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []string{"m1", "m2", "m3"} {
		b.start(t, m, b.etcd(m)+" --initial-cluster "+allMembers)
	}
	b.put(t, "before", 100)
	b.serveAgain(t)
	return b
}

// etcd is the start of a member whose data alone names the other members.
func (b *runbook) etcd(name string) string {
	host := "https://10.0.0." + name[1:]
	return fmt.Sprintf("etcd --name %s --data-dir /var/lib/etcd --initial-advertise-peer-urls %s:2380 "+
		"--listen-peer-urls %s:2380"+
		" --listen-client-urls %s:2379 --advertise-client-urls %s:2379", name, host, host, host, host)
}

func (b *runbook) serveAgain(t *testing.T) {
	if b.serve != nil {
		b.serve.kill()
	}
	args := append([]string{
		"--etcd-endpoints", strings.Join(b.endpoints(), ","), "--data-dir", b.t.TempDir(), "--node-name", "node-1",
	}, b.backends...)
	if b.journal {
		backends := map[string]string{"local": "file://" + b.dir, "s3": b.s3URL("")}
		args = []string{"--config", journaled(b.t, b.t.TempDir(), b.endpoints(), backends)}
	}
	b.serve = start(b.t, b.options(), args...)
}

func (b *runbook) endpoints() []string {
	return []string{"http://127.0.77.1:2379", "http://127.0.77.2:2379", "http://127.0.77.3:2379"}
}

// here returns a command as it has to be on a machine of this test.
func (b *runbook) here(machine, command string) string {
	return strings.NewReplacer("https://10.0.0.", "http://127.0.77.", "https://10.0.1.", "http://127.0.78.",
		"/var/lib/etcd", filepath.Join(b.root, machine), "URL", "'"+b.s3URL("")+"'", "--cluster NAME",
		"--cluster default").Replace(command)
}

func (b *runbook) command(ctx context.Context, machine, command string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+b.here(machine, command))
	cmd.Env = append(append(os.Environ(), b.s3.Env()...), "PATH="+b.path+":"+os.Getenv("PATH"))
	if b.serve != nil {
		cmd.Env = append(cmd.Env, "SNAPSHOTD_ADDR="+b.serve.grpc)
	}
	return cmd
}

// run runs a command on a machine, and returns its output.
func (b *runbook) run(t *testing.T, machine, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := b.command(ctx, machine, command).CombinedOutput()
	if err != nil {
		t.Fatalf("on %s: %s: %v\n%s", machine, b.here(machine, command), err, out)
	}
	return string(out)
}

// start runs etcd on a machine.
func (b *runbook) start(t *testing.T, machine, command string) {
	t.Helper()
	log, err := os.Create(filepath.Join(b.t.TempDir(), machine+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := b.command(context.WithoutCancel(t.Context()), machine, command+" --log-level error")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.running[machine] = cmd
	b.t.Cleanup(func() {
		b.stop(machine)
		if out, _ := os.ReadFile(log.Name()); b.t.Failed() {
			b.t.Logf("etcd of %s: %s", machine, tail(string(out), 2000))
		}
	})
}

// stop kills etcd on a machine.
func (b *runbook) stop(machine string) {
	if cmd := b.running[machine]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		delete(b.running, machine)
	}
}

// commands returns the commands of a section, in their order.
func (b *runbook) commands(t *testing.T, section string) []string { return b.fenced(t, section, "sh") }

// fenced returns the lines of the blocks of one kind in a section.
func (b *runbook) fenced(t *testing.T, section, kind string) []string {
	t.Helper()
	_, text, ok := strings.Cut(b.doc, "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var all []string
	inside := false
	for line := range strings.Lines(text) {
		switch line = strings.TrimSpace(line); {
		case line == "```"+kind:
			inside = true
		case line == "```":
			inside = false
		case inside:
			all = append(all, line)
		}
	}
	if !ok || len(all) == 0 {
		t.Fatalf("the runbook has no commands for %q", section)
	}
	return all
}

func (b *runbook) client(t *testing.T, endpoints ...string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (b *runbook) put(t *testing.T, prefix string, n int) {
	t.Helper()
	c := b.client(t, b.endpoints()...)
	eventually(t, "etcd takes a write", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.Put(ctx, prefix, "")
		return err == nil
	})
	for i := range n {
		if _, err := c.Put(t.Context(), fmt.Sprintf("%s/%d", prefix, i), "x"); err != nil {
			t.Fatal(err)
		}
	}
}

// has checks that each of these members has so many keys under a prefix, when asked alone.
func (b *runbook) has(t *testing.T, prefix string, n int64, endpoints ...string) {
	t.Helper()
	for _, e := range endpoints {
		c := b.client(t, e)
		eventually(t, "member "+e+" answers", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := c.Get(ctx, "x")
			return err == nil
		})
		resp, err := c.Get(t.Context(), prefix+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil || resp.Count != n {
			t.Errorf("%s has %v keys under %s, %v; want %d", e, resp, prefix, err, n)
		}
	}
}

func (b *runbook) oneMember(t *testing.T) {
	steps := b.commands(t, "One member is lost")
	b.stop("m3")
	for _, step := range steps[:3] {
		if strings.HasSuffix(step, "member list") {
			list := b.run(t, "m1", step)
			for line := range strings.Lines(list) {
				if strings.Contains(line, ", m3,") {
					id, _, _ := strings.Cut(line, ",")
					steps[1] = strings.Replace(steps[1], "ID", id, 1)
				}
			}
			continue
		}
		if strings.HasSuffix(step, "remove ID") {
			step = steps[1]
		}
		eventually(t, step, func() bool { // etcd refuses for some seconds after its members have met
			out, err := b.command(t.Context(), "m1", step).CombinedOutput()
			if err != nil && !strings.Contains(string(out), "unhealthy cluster") {
				t.Fatalf("%s: %s", step, out)
			}
			return err == nil
		})
	}
	b.run(t, "m3", steps[3])
	b.start(t, "m3", steps[4])
	b.has(t, "before", 100, b.endpoints()...)
	b.run(t, "m1", "etcdctl --endpoints https://10.0.0.1:2379 endpoint health --cluster")
	b.serve.save()
}

// quorum kills two members just after something was written that is in no snapshot.
func (b *runbook) quorum(t *testing.T) {
	b.put(t, "late", 50)
	b.has(t, "late", 50, b.endpoints()[0]) // a follower may be behind, and what it lacks is lost with the others
	b.stop("m2")
	b.stop("m3")
	out := b.run(t, "m1", b.commands(t, "The quorum is lost, and a member still answers")[0])
	if !strings.Contains(out, "the catalog was not written") {
		t.Errorf("it said\n%s", out)
	}
	b.allLost(t, "latest")
	b.has(t, "late", 50, b.endpoints()...)
	eventually(t, "the catalog has the snapshot of the last member", func() bool {
		r := b.serve.run("list")
		return r.code == 0 && strings.Contains(r.stdout, "last-member")
	})
}

// allLost stops every member and goes through "All members are lost", with which as the snapshot.
func (b *runbook) allLost(t *testing.T, which string) {
	t.Helper()
	b.serve.kill()
	steps := b.commands(t, "All members are lost")
	for _, m := range []string{"m1", "m2", "m3"} {
		b.stop(m)
		_ = os.RemoveAll(filepath.Join(b.root, m+".lost")) // of the last time
		b.run(t, m, steps[0])
	}
	b.restoreMembers(t, strings.Replace(steps[1], "latest", which, 1))
	b.has(t, "before", 100, b.endpoints()...)
	b.serveAgain(t)
}

// restoreMembers makes a plan for all members, follows it on each machine, and starts etcd there.
func (b *runbook) restoreMembers(t *testing.T, plan string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(b.run(t, "m1", plan)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "snapshotd restore ") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 3 {
		t.Fatalf("the plan has %d lines: %q", len(lines), lines)
	}
	for i, m := range []string{"m1", "m2", "m3"} {
		b.run(t, m, strings.Replace(lines[i], filepath.Join(b.root, "m1"), filepath.Join(b.root, m), 1))
		b.start(t, m, b.etcd(m))
	}
}

func (b *runbook) wrongData(t *testing.T) {
	c := b.client(t, b.endpoints()...)
	eventually(t, "a snapshot is taken while all is well",
		func() bool { return b.serve.run("save", "--name-prefix", "well").code == 0 })
	at := time.Now().Add(time.Second)
	for time.Now().Before(at.Add(time.Second)) {
		time.Sleep(100 * time.Millisecond) // snapshots are named and chosen by the second
	}
	if _, err := c.Delete(t.Context(), "before/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	b.has(t, "before", 0, b.endpoints()...)
	for _, step := range b.commands(t, "Wrong data was written") {
		if out := b.run(t, "m1", step); strings.Contains(step, "list") && !strings.Contains(out, "before-going-back") {
			t.Errorf("%s: %s", step, out)
		}
	}
	b.allLost(t, "--at "+at.UTC().Format(time.RFC3339))
}

func (b *runbook) bucketLost(t *testing.T) {
	eventually(t, "the catalog is settled", func() bool {
		ready := func(sn snap) bool { return sn.State == "STATE_READY" }
		return b.serve.run("reconcile").code == 0 &&
			!slices.ContainsFunc(b.serve.list(), func(sn snap) bool { return !ready(sn) })
	})
	before := len(b.serve.list())
	if err := os.RemoveAll(filepath.Join(b.s3.Dir(), b.bucket)); err != nil {
		t.Fatal(err)
	}
	if r := b.serve.run("save"); r.code != 3 || !strings.Contains(r.stderr, "bucket") {
		t.Errorf("a save without the bucket: exit code %d: %s", r.code, r.stderr)
	}
	b.bucket = "again"
	b.s3.MakeBucket(b.bucket)
	b.backends[3] = "s3-2=" + b.s3URL("")
	b.serveAgain(t)
	for _, step := range b.commands(t, "The bucket is lost") {
		eventually(t, step, func() bool { return b.command(t.Context(), "m1", step).Run() == nil })
	}
	b.serve.must("reconcile") // as the service does by itself, sooner or later
	after := b.serve.list()
	if len(after) != before+2 || len(b.objects(t)) != 2*len(after) {
		t.Errorf("there were %d snapshots, and are %d; the new bucket has %d objects", before, len(after), len(b.objects(t)))
	}
	for _, sn := range after {
		if sn.State != "STATE_READY" || len(sn.Locations) != 2 {
			t.Errorf("in the catalog: %+v", sn)
		}
	}
}

func (b *runbook) newMachines(t *testing.T) {
	b.serve.kill()
	for _, m := range []string{"m1", "m2", "m3"} {
		b.stop(m)
	}
	steps := b.commands(t, "On new machines")
	b.run(t, "n1", steps[0])
	b.start(t, "n1", steps[1])
	b.has(t, "before", 100, "http://127.0.78.1:2379")
}
