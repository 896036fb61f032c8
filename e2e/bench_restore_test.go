//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestBenchRestore measures restores and drills beside etcdutl's restore of the uncompressed file, in one run, of one
// snapshot, in turns. It is `make bench-restore`; SNAPSHOTD_E2E_ROUNDS says how many turns, and without it nothing is
// measured. All that is read lies in the system's cache, for everybody.
//
// SNAPSHOTD_E2E_LOCK may name a file that is locked (flock) while a round is measured, on a machine that others use.
func TestBenchRestore(t *testing.T) {
	rounds := envInt(t, "SNAPSHOTD_E2E_ROUNDS", 0)
	if rounds == 0 {
		t.Skip("SNAPSHOTD_E2E_ROUNDS is not set")
	}
	b := newRestoreBench(t, envInt(t, "SNAPSHOTD_E2E_BYTES", 1181116006))
	b.take(rounds)
	t.Log("\n" + b.report())
}

// restoreBench is a snapshot on a directory, in a bucket, encrypted, and as etcdctl leaves it, and the programs that
// restore it.
type restoreBench struct {
	turns
	*world
	service *service
	etcdutl string
	file    string // a snapshot of etcdctl
	work    string // target of the restores, emptied after each turn
	key     string // of the encrypted copies
}

func newRestoreBench(t *testing.T, bytes int64) *restoreBench {
	t.Helper()
	w := newWorld(t, bytes, testenv.Fsync())
	b := &restoreBench{
		turns: turns{t: t}, world: w, etcdutl: testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3"),
		file: filepath.Join(t.TempDir(), "snapshot.db"), work: t.TempDir(), key: filepath.Join(t.TempDir(), "key.txt"),
	}
	b.cleanUp = b.empty
	b.service = start(t, w.options(), "--config", b.config())
	b.service.must("save", "--cluster", "default")
	b.service.must("save", "--cluster", "encrypted")
	w.must(t, testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdctl/v3"), "--endpoints", w.etcd.Endpoints()[0], "snapshot",
		"save", b.file)
	dir, s3 := "file://"+w.dir, w.s3URL("")
	b.contenders = []contender{
		{name: "p", what: "the peer: etcdutl snapshot restore of the uncompressed file, its hash checked", run: b.peer},
		{name: "l", what: "snapshotd restore from a directory, zstd", run: b.restore("--from", dir)},
		{name: "s", what: "snapshotd restore from S3, zstd", run: b.restore("--from", s3)},
		{name: "e", what: "snapshotd restore from a directory, zstd, encrypted",
			run: b.restore("--from", dir, "--cluster", "encrypted", "--identity", b.key)},
		{name: "d", what: "snapshotd verify --from a directory --level drill",
			run: b.verify("--from", dir, "--temp-dir", b.work)},
		{name: "v", what: "snapshotd verify --level drill: the service, and its live cluster's HashKV",
			run: b.verify("--addr", b.service.grpc, "--backend", "local")},
	}
	return b
}

// config is that of a service that saves one etcd twice, in the clear and encrypted.
func (b *restoreBench) config() string {
	b.t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.t.Fatal(err)
	}
	backends := fmt.Sprintf("backends: [{name: local, url: %q}, {name: s3, url: %q}]", "file://"+b.dir, b.s3URL(""))
	doc := "reconcile_interval: 24h\nclusters:\n"
	for name, more := range map[string]string{"default": "",
		"encrypted": ", encryption: {recipients: [" + id.Recipient().String() + "]}"} {
		doc += fmt.Sprintf("  - {name: %s, etcd: {endpoints: [%q]}, %s%s}\n", name, b.etcd.Endpoints()[0], backends, more)
	}
	if err := os.WriteFile(b.key, []byte(id.String()+"\n"), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return writeConfig(b.t, "%s", doc)
}

func (b *restoreBench) peer() {
	b.must(b.t, b.etcdutl, "snapshot", "restore", b.file, "--data-dir", filepath.Join(b.work, "data"))
}

func (b *restoreBench) restore(args ...string) func() {
	args = append([]string{"restore", "latest", "--data-dir", filepath.Join(b.work, "data")}, args...)
	return func() { b.must(b.t, b.service.path, args...) }
}

func (b *restoreBench) verify(args ...string) func() {
	args = append([]string{"verify", "latest", "--level", "drill", "--cluster", "default"}, args...)
	return func() { b.must(b.t, b.service.path, args...) }
}

// empty removes the files of a restore.
func (b *restoreBench) empty() {
	b.t.Helper()
	if err := os.RemoveAll(filepath.Join(b.work, "data")); err != nil {
		b.t.Fatal(err)
	}
	unix.Sync()
}

// report is the outcome as Markdown.
func (b *restoreBench) report() string {
	var out strings.Builder
	size := func(path string) float64 {
		info, err := os.Stat(path)
		if err != nil {
			b.t.Fatal(err)
		}
		return float64(info.Size()) / 1e9
	}
	fmt.Fprintf(&out, "%s\n\netcd %s, snapshot of %.2f GB, %.2f GB as it is stored; medians of %d rounds.\n\n%s\n",
		machine(b.t), b.etcd.Status(b.t, 0).Version, size(b.file), size(b.stored()), len(b.took["p"]), b.table())
	var heads, lines, ratios []string
	for _, c := range b.contenders[1:] {
		each := make([]float64, len(b.took["p"])) // of turns of the same round
		for i, p := range b.took["p"] {
			each[i] = b.took[c.name][i].Seconds() / p.Seconds()
		}
		heads, lines = append(heads, c.name+" / p"), append(lines, "---")
		ratios = append(ratios, fmt.Sprintf("%.2f (by round %.2f)", ratio(b.took[c.name], b.took["p"]), median(each)))
	}
	fmt.Fprintf(&out, "| %s |\n|%s|\n| %s |\n", strings.Join(heads, " | "), strings.Join(lines, "|"),
		strings.Join(ratios, " | "))
	return out.String()
}

func ratio(a, b []time.Duration) float64 { return median(a).Seconds() / median(b).Seconds() }

// stored is the copy in the directory that is not encrypted.
func (b *restoreBench) stored() string {
	for _, f := range b.files(b.t) {
		if strings.HasSuffix(f, ".db.zst") {
			return f
		}
	}
	b.t.Fatal("there is no copy in the directory")
	return ""
}
