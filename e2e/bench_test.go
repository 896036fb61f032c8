//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

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
	b.take(rounds)
	t.Log("\n" + b.report())
}

// bench is the database, the S3 server, and the programs that save.
type bench struct {
	*world
	turns
	service *service
	otlp    *testenv.OTLP
	etcdctl string
	etcdutl string
	peer    string
	work    string // the peers' directory, emptied after each turn

	status struct {
		TotalKey  int64 `json:"totalKey"`
		TotalSize int64 `json:"totalSize"`
		Revision  int64 `json:"revision"`
	}
}

func newBench(t *testing.T, bytes int64) *bench {
	t.Helper()
	w := newWorld(t, bytes, testenv.Fsync())
	b := &bench{
		world: w, turns: turns{t: t}, work: t.TempDir(),
		etcdctl: testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdctl/v3"),
		etcdutl: testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3"),
		peer:    testenv.Tool(t, "peer", "github.com/snapshotd/snapshotd/tools/peer"),
		otlp:    testenv.StartOTLP(t),
	}
	b.cleanUp = b.removeAll
	o := w.options()
	o.env = append(o.env, "OTEL_EXPORTER_OTLP_ENDPOINT="+b.otlp.GRPC, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_METRICS_EXPORTER=none")
	b.service = start(t, o, append(w.args(t, ""), "--reconcile-interval", "24h")...)
	b.contenders = []contender{
		{name: "a", what: "the floor: etcd's client library reads the stream, nothing is kept", run: b.floor},
		{name: "b save", what: "etcdctl snapshot save, to one file", run: b.ctlSave},
		{name: "b status", what: "etcdutl snapshot status of it", run: b.utlStatus, follows: true},
		{name: "c", what: "as K3s: client library to disk, Deflate, upload in two threads", run: b.k3s},
		{name: "d", what: "snapshotd save: directory and S3, zstd, verified, inspected, fsynced, catalogued", run: b.save},
	}
	return b
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
	b.must(b.t, b.etcdctl, "--endpoints", b.etcd.Endpoints()[0], "snapshot", "save", b.file())
}

func (b *bench) utlStatus() {
	decode(b.t, b.must(b.t, b.etcdutl, "snapshot", "status", b.file(), "-w", "json"), &b.status)
}

func (b *bench) k3s() {
	b.must(b.t, b.peer, "--endpoint", b.etcd.Endpoints()[0], "--dir", b.work, "--s3", b.s3.Addr(), "--bucket", b.bucket)
}

func (b *bench) save() {
	var resp struct{ Snapshot snap }
	decode(b.t, b.service.must("save", "-o", "json"), &resp)
	if s := resp.Snapshot; s.State != "STATE_READY" || s.TotalKeys == 0 || len(s.Locations) != 2 {
		b.t.Fatalf("it saved %+v", s)
	}
}

// removeAll removes the objects of a turn.
func (b *bench) removeAll() {
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
		_, err := b.s3.Client().DeleteObject(context.WithoutCancel(b.t.Context()), &s3.DeleteObjectInput{
			Bucket: aws.String(b.bucket), Key: aws.String(key),
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	unix.Sync()
}

// report is the outcome as Markdown.
func (b *bench) report() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n\n", machine(b.t))
	fmt.Fprintf(&out, "etcd %s, database of %.2f GB, %d keys; medians of %d rounds.\n\n",
		b.etcd.Status(b.t, 0).Version, float64(b.status.TotalSize)/1e9, b.status.TotalKey, len(b.took["d"]))
	out.WriteString(b.table())
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
	for _, name := range []string{"etcd snapshot stream", "snapshot compress", "snapshot inspect", "snapshot write local",
		"snapshot write s3", "snapshot save"} {
		ends = append(ends, fmt.Sprintf("%s %.2f s", name, median(parts[name]).Seconds()))
	}
	return "End of each part, from the beginning of the save: " + strings.Join(ends, ", ") + ".\n"
}
