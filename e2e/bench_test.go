//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

	"github.com/snapshotd/snapshotd/internal/loader"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestBenchSave measures a save beside what others do, in one run, on one database and one S3 server, in turns. It is
// `make bench-save`; SNAPSHOTD_E2E_ROUNDS says how many turns, and without it nothing is measured.
//
// SNAPSHOTD_E2E_LOCK may name a file that is locked (flock) while a round is measured, on a machine that others use.
func TestBenchSave(t *testing.T) {
	rounds := envInt(t, "SNAPSHOTD_E2E_ROUNDS", 0)
	if rounds == 0 {
		t.Skip("SNAPSHOTD_E2E_ROUNDS is not set")
	}
	b := newBench(t, envInt(t, "SNAPSHOTD_E2E_BYTES", 1181116006))
	b.round(nil) // what is built, opened or cached once does not count
	for range rounds {
		b.round(b.note)
	}
	t.Log("\n" + b.report())
}

// bench is the database, the S3 server, and those who save.
type bench struct {
	*world
	t       *testing.T
	service *service
	otlp    *testenv.OTLP
	etcdctl string
	etcdutl string
	peer    string
	work    string // the peers' directory, emptied after each turn

	contenders []contender
	took       map[string][]time.Duration
	busy       map[string][]float64 // share of the processors that was used, by anybody
	status     struct {
		TotalKey  int64 `json:"totalKey"`
		TotalSize int64 `json:"totalSize"`
		Revision  int64 `json:"revision"`
	}
	begin time.Time // of the first round that counts
}

type contender struct {
	name, what string
	run        func()
}

func newBench(t *testing.T, bytes int64) *bench {
	t.Helper()
	w := &world{etcd: testenv.StartCluster(t, 1, testenv.Fsync()), s3: testenv.StartS3(t), dir: t.TempDir(), bucket: "snapshots"}
	w.s3.MakeBucket(w.bucket)
	if err := loader.Load(t.Context(), w.etcd.Client(t), loader.Config{Bytes: bytes, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	b := &bench{
		world: w, t: t, work: t.TempDir(), took: map[string][]time.Duration{}, busy: map[string][]float64{},
		etcdctl: testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdctl/v3"),
		etcdutl: testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3"),
		peer:    testenv.Tool(t, "peer", "github.com/snapshotd/snapshotd/tools/peer"),
		otlp:    testenv.StartOTLP(t),
	}
	o := w.options()
	o.env = append(o.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+b.otlp.GRPC, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_METRICS_EXPORTER=none")
	b.service = start(t, o, append(w.args(t, ""), "--reconcile-interval", "24h")...)
	b.contenders = []contender{
		{"a", "the floor: etcd's client library reads the stream, nothing is kept", b.floor},
		{"b save", "etcdctl snapshot save, to one file", b.ctlSave},
		{"b status", "etcdutl snapshot status of it", b.utlStatus},
		{"c", "as K3s: client library to disk, Deflate, upload in two threads", b.k3s},
		{"d", "snapshotd save: directory and S3, zstd, verified, inspected, fsynced, catalogued", b.save},
	}
	return b
}

// round gives each its turn; note, unless it is nil, is told how long it took and how busy the machine was.
func (b *bench) round(note func(c contender, d time.Duration, busy float64)) {
	b.t.Helper()
	defer b.lock()()
	if note != nil && b.begin.IsZero() {
		b.begin = time.Now()
	}
	for _, c := range b.contenders {
		if c.name != "b status" { // it reads what was written the moment before
			b.cleanUp()
		}
		used, all := processors(b.t)
		begin := time.Now()
		c.run()
		d := time.Since(begin)
		used2, all2 := processors(b.t)
		if note != nil {
			note(c, d, (used2-used)/(all2-all))
		}
	}
	b.cleanUp()
}

func (b *bench) note(c contender, d time.Duration, busy float64) {
	b.took[c.name] = append(b.took[c.name], d)
	b.busy[c.name] = append(b.busy[c.name], busy)
	b.t.Logf("%-9s %6.2f s, processors %3.0f %% busy", c.name, d.Seconds(), busy*100)
}

func (b *bench) floor() {
	r, err := b.etcd.Client(b.t).Snapshot(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) file() string { return filepath.Join(b.work, "snapshot.db") }

func (b *bench) ctlSave() {
	b.must(b.etcdctl, "--endpoints", b.etcd.Endpoints()[0], "snapshot", "save", b.file())
}

func (b *bench) utlStatus() {
	decode(b.t, b.must(b.etcdutl, "snapshot", "status", b.file(), "-w", "json"), &b.status)
}

func (b *bench) k3s() {
	b.must(b.peer, "--endpoint", b.etcd.Endpoints()[0], "--dir", b.work, "--s3", b.s3.Addr(), "--bucket", b.bucket)
}

func (b *bench) save() {
	var resp struct{ Snapshot snap }
	decode(b.t, b.service.must("save", "-o", "json"), &resp)
	if s := resp.Snapshot; s.State != "STATE_READY" || s.TotalKeys == 0 || len(s.Locations) != 2 {
		b.t.Fatalf("it saved %+v", s)
	}
}

func (b *bench) must(program string, args ...string) string {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), program, args...)
	cmd.Env = append(os.Environ(), b.s3.Env()...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("%s %v: %v\n%s", program, args, err, stderr.String())
	}
	return string(out)
}

// cleanUp removes what a turn has stored and waits until the disk has come to rest, so that nobody pays for another.
func (b *bench) cleanUp() {
	b.t.Helper()
	for _, dir := range []string{b.work, filepath.Join(b.dir, "default")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			b.t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	for _, key := range b.objects(b.t) {
		_, err := b.s3.Client().DeleteObject(context.WithoutCancel(b.t.Context()), &s3.DeleteObjectInput{Bucket: aws.String(b.bucket), Key: aws.String(key)})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	unix.Sync()
}

// lock takes the lock that SNAPSHOTD_E2E_LOCK names, if it does.
func (b *bench) lock() (unlock func()) {
	name := os.Getenv("SNAPSHOTD_E2E_LOCK")
	if name == "" {
		return func() {}
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return func() { _ = f.Close() }
}

// report is the outcome as Markdown.
func (b *bench) report() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n\n", machine(b.t))
	fmt.Fprintf(&out, "etcd %s, database of %.2f GB, %d keys; medians of %d rounds.\n\n",
		b.etcd.Status(b.t, 0).Version, float64(b.status.TotalSize)/1e9, b.status.TotalKey, len(b.took["d"]))
	fmt.Fprintln(&out, "| | | median | all | processors busy |\n|---|---|---|---|---|")
	for _, c := range b.contenders {
		var all []string
		for _, d := range b.took[c.name] {
			all = append(all, fmt.Sprintf("%.2f", d.Seconds()))
		}
		fmt.Fprintf(&out, "| %s | %s | %.2f s | %s | %.0f %% |\n",
			c.name, c.what, median(b.took[c.name]).Seconds(), strings.Join(all, ", "), 100*median(b.busy[c.name]))
	}
	var both []time.Duration
	for i, d := range b.took["b save"] {
		both = append(both, d+b.took["b status"][i])
	}
	d := median(b.took["d"]).Seconds()
	fmt.Fprintf(&out, "\n| d / a | d / b (save and status) | d / c |\n|---|---|---|\n| %.2f | %.2f | %.2f |\n\n",
		d/median(b.took["a"]).Seconds(), d/median(both).Seconds(), d/median(b.took["c"]).Seconds())
	out.WriteString(b.phases())
	return out.String()
}

// phases says when in a save each of its parts ended, from the traces.
func (b *bench) phases() string {
	begins := map[string]time.Time{} // of the saves that count, by trace
	var ends []string
	eventually(b.t, "the traces arrive", func() bool {
		clear(begins)
		for _, s := range b.otlp.Spans() {
			if s.Name == "snapshot save" && s.Start.After(b.begin) {
				begins[s.TraceID] = s.Start
			}
		}
		return len(begins) >= len(b.took["d"])
	})
	parts := map[string][]time.Duration{}
	for _, s := range b.otlp.Spans() {
		begin, ok := begins[s.TraceID]
		if !ok {
			continue
		}
		name := strings.TrimSpace(s.Name + " " + s.Attributes["backend"])
		if s.Name == "storage put" {
			name += " " + filepath.Ext(s.Attributes["key"])
		}
		parts[name] = append(parts[name], s.Start.Add(s.Duration).Sub(begin))
	}
	for _, name := range []string{"etcd snapshot stream", "snapshot compress", "snapshot inspect", "snapshot write local", "snapshot write s3", "snapshot save"} {
		ends = append(ends, fmt.Sprintf("%s %.2f s", name, median(parts[name]).Seconds()))
	}
	return "End of each part, from the beginning of the save: " + strings.Join(ends, ", ") + ".\n"
}

func median[T time.Duration | float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// processors returns how much time all processors have spent, working and in all.
func processors(t *testing.T) (used, all float64) {
	t.Helper()
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	var v [8]float64 // user, nice, system, idle, iowait, irq, softirq, steal
	if _, err := fmt.Sscanf(string(stat), "cpu %f %f %f %f %f %f %f %f", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]); err != nil {
		t.Fatal(err)
	}
	for i, x := range v {
		all += x
		if i != 3 && i != 4 {
			used += x
		}
	}
	return used, all
}

// machine describes where this runs.
func machine(t *testing.T) string {
	t.Helper()
	after := func(file, key string) string {
		b, _ := os.ReadFile(file)
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, key); ok {
				return strings.Trim(rest, " \t\n:\"")
			}
		}
		return "unknown"
	}
	cores := 0
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "processor") {
			cores++
		}
	}
	var kb int64
	_, _ = fmt.Sscan(after("/proc/meminfo", "MemTotal:"), &kb)
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	goVersion, _ := exec.CommandContext(t.Context(), "go", "env", "GOVERSION").Output()
	return fmt.Sprintf("%d cores (%s), %.0f GiB of memory, %s, Linux %s, %s", cores, after("/proc/cpuinfo", "model name"),
		float64(kb)/(1<<20), after("/etc/os-release", "PRETTY_NAME="), strings.TrimSpace(string(kernel)), strings.TrimSpace(string(goVersion)))
}
