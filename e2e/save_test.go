//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestWhatIsSavedRestoresToWhatEtcdHad is the whole promise: save, list, check the stored bytes with etcd's own tool,
// restore them with it, and compare the restored etcd with the live one.
func TestWhatIsSavedRestoresToWhatEtcdHad(t *testing.T) {
	w := newWorld(t, envInt(t, "SNAPSHOTD_E2E_BYTES", 256<<20))
	s := start(t, w.options(), w.args(t, "")...)
	t.Log(s.must("save"))
	snaps := s.list()
	if len(snaps) != 1 || snaps[0].State != "STATE_READY" || len(snaps[0].Locations) != 2 || snaps[0].Revision == 0 ||
		snaps[0].TotalKeys == 0 {
		t.Fatalf("list: %+v", snaps)
	}
	sn := snaps[0]
	t.Log(s.must("list"))

	local, err := os.ReadFile(filepath.Join(w.dir, "default", sn.Name+".db.zst"))
	if err != nil {
		t.Fatal(err)
	}
	remote := w.object(t, "default/"+sn.Name+".db.zst")
	if !bytes.Equal(local, remote) {
		t.Fatal("the backends hold different bytes")
	}
	db := filepath.Join(t.TempDir(), "snapshot.db")
	decompress(t, local, db)
	compareWithEtcdutl(t, db, sn)
	hashKV := liveHash(t, w.etcd.Client(t), w.etcd.Endpoints()[0], sn.Revision)

	etcdutl := testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3")
	data := filepath.Join(t.TempDir(), "restored")
	if out, err := exec.Command(etcdutl, "snapshot", "restore", db, "--data-dir", data).CombinedOutput(); err != nil {
		t.Fatalf("etcdutl snapshot restore: %v\n%s", err, out)
	}
	restored := testenv.StartRestored(t, data)
	if got := liveHash(t, restored.Client(t), restored.Endpoints()[0], sn.Revision); got != hashKV {
		t.Errorf("HashKV of the restored etcd at revision %d is %d, of the live one %d", sn.Revision, got, hashKV)
	}
}

// decompress decompresses stored bytes with the program zstd where there is one, or else with the library.
func decompress(t *testing.T, stored []byte, path string) {
	t.Helper()
	if zstdProgram, err := exec.LookPath("zstd"); err == nil {
		cmd := exec.Command(zstdProgram, "-d", "-q", "-o", path)
		cmd.Stdin = bytes.NewReader(stored)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("zstd -d: %v\n%s", err, out)
		}
		return
	}
	r, err := zstd.NewReader(bytes.NewReader(stored))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
}

// compareWithEtcdutl compares the catalog's record of a snapshot with the output of etcdutl.
func compareWithEtcdutl(t *testing.T, db string, sn snap) {
	t.Helper()
	etcdutl := testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3")
	out, err := exec.Command(etcdutl, "snapshot", "status", db, "-w", "json").Output()
	if err != nil {
		t.Fatalf("etcdutl snapshot status: %v", err)
	}
	var status struct {
		Hash               uint32
		Revision, TotalKey int64
	}
	if err := json.Unmarshal(out, &status); err != nil {
		t.Fatal(err)
	}
	if status.Hash != sn.Hash || status.Revision != sn.Revision || status.TotalKey != sn.TotalKeys {
		t.Errorf("etcdutl says %+v, the catalog %+v", status, sn)
	}
	f, err := os.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, f, sn.DbSizeBytes); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sn.Sha256 {
		t.Errorf("sha256 of the database is %s, the catalog says %s", got, sn.Sha256)
	}
}

func liveHash(t *testing.T, client *clientv3.Client, endpoint string, revision int64) uint32 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	resp, err := client.HashKV(ctx, endpoint, revision)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Hash
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// TestBackendsThatAreDownAreReportedAndTheRestIsKept is acceptance 4: S3 down, then both.
func TestBackendsThatAreDownAreReportedAndTheRestIsKept(t *testing.T) {
	w := newWorld(t, 0)
	s := start(t, w.options(), w.args(t, "")...)
	s.must("save")
	w.s3.Stop()
	r := s.run("save", "--name-prefix", "half")
	if r.code != 3 || !strings.Contains(r.stderr, "s3") || !strings.Contains(r.stderr, "local") {
		t.Fatalf("save with S3 down: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	t.Logf("save with S3 down:\n%s%s", r.stdout, r.stderr)
	metrics := s.scrape()
	for name, want := range map[string]float64{
		`etcd_snapshot_save_duration_seconds_count{status="success"}`:       1,
		`etcd_snapshot_save_duration_seconds_count{status="error"}`:         1,
		`etcd_snapshot_save_local_duration_seconds_count{status="success"}`: 2,
		`etcd_snapshot_save_s3_duration_seconds_count{status="success"}`:    1,
		`etcd_snapshot_save_s3_duration_seconds_count{status="error"}`:      1,
	} {
		if metrics[name] != want {
			t.Errorf("%s is %v, want %v", name, metrics[name], want)
		}
	}
	grpcurl(t, s, `{"name_prefix":"half"}`, `"code": 14`, "BACKEND_UNAVAILABLE", "STATE_PARTIAL")

	before := len(w.files(t))
	if err := os.Rename(w.dir, w.dir+".away"); err != nil {
		t.Fatal(err)
	}
	r = s.run("save", "--name-prefix", "none")
	if err := os.Rename(w.dir+".away", w.dir); err != nil {
		t.Fatal(err)
	}
	if r.code != 1 {
		t.Errorf("save with both down: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	t.Logf("save with both down:\n%s%s", r.stdout, r.stderr)
	if got := len(w.files(t)); got != before {
		t.Errorf("%d files, before %d", got, before)
	}
	failed := 0
	for _, sn := range s.list() {
		if strings.HasPrefix(sn.Name, "none-") && sn.State == "STATE_FAILED" {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d FAILED records", failed)
	}
	w.s3.Start()
	for _, k := range w.objects(t) {
		if strings.Contains(k, "/none-") || strings.Contains(k, "/half-") {
			t.Errorf("left in the bucket: %s", k)
		}
	}
}

// grpcurl calls Save and expects these words in its output.
func grpcurl(t *testing.T, s *service, request string, words ...string) {
	t.Helper()
	tool := testenv.Tool(t, "servers", "github.com/fullstorydev/grpcurl/cmd/grpcurl")
	r := command(t.Context(), t, tool, "-plaintext", "-format-error", "-d", request, s.grpc,
		"snapshotd.v1.SnapshotService/Save")
	for _, word := range words {
		if !strings.Contains(r.stdout+r.stderr, word) {
			t.Errorf("grpcurl does not say %q:\n%s%s", word, r.stdout, r.stderr)
		}
	}
}

// TestTwoReplicasNeverSaveAtOnce is acceptance 8: fifty saves thrown at two replicas.
func TestTwoReplicasNeverSaveAtOnce(t *testing.T) {
	w := newWorld(t, 0)
	a := start(t, w.options(), w.args(t, "")...)
	b := start(t, w.options(), append(w.args(t, ""), "--node-name", "node-2")...)
	results := make(chan result, 50)
	for i := range 50 {
		go func() {
			s := []*service{a, b}[i%2]
			results <- command(context.WithoutCancel(t.Context()), t, s.path, "save", "-o", "json", "--addr", s.grpc)
		}()
	}
	names := map[string]bool{}
	busy := 0
	for range 50 {
		r := <-results
		switch r.code {
		case 0:
			sn := decodeSave(t, r.stdout)
			if names[sn.Name] {
				t.Errorf("the name %s was given twice", sn.Name)
			}
			names[sn.Name] = true
		case 5:
			busy++
		default:
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
	}
	t.Logf("%d saved, %d were told that one is running", len(names), busy)
	if len(names) == 0 || busy == 0 {
		t.Error("the saves did not meet")
	}
	listed := map[string]bool{}
	for _, sn := range a.list() {
		listed[sn.Name] = true
		if sn.State != "STATE_READY" || !names[sn.Name] {
			t.Errorf("in the catalog: %+v", sn)
		}
	}
	if len(listed) != len(names) || len(w.files(t)) != 2*len(names) || len(w.objects(t)) != 2*len(names) {
		t.Errorf("%d names, %d records, %d files, %d objects", len(names), len(listed), len(w.files(t)), len(w.objects(t)))
	}
	rec, _ := b.reconcile()
	for _, r := range rec.Backends {
		if r.Added+r.Updated+r.Removed+r.Swept > 0 || r.Unchanged != int64(len(names)) {
			t.Errorf("reconcile: %+v", r)
		}
	}
}

// TestThrottledS3DoesNotHoldEtcd is acceptance 3. How long etcd's read transaction is open is taken from the trace: the
// span of etcd's stream begins when the member was asked and ends when its last byte was read.
func TestThrottledS3DoesNotHoldEtcd(t *testing.T) {
	w := newWorld(t, envInt(t, "SNAPSHOTD_E2E_BYTES", 256<<20))
	otlp := testenv.StartOTLP(t)
	proxy := testenv.StartProxy(t, w.s3.Addr())
	s := start(t, w.traced(otlp), w.args(t, proxy.Addr())...)
	s.must("save", "--name-prefix", "warm")
	streams := func() []time.Duration {
		var all []time.Duration
		for _, sp := range otlp.Spans() {
			if sp.Name == "etcd snapshot stream" {
				all = append(all, sp.Duration)
			}
		}
		return all
	}
	var free, throttled []time.Duration
	for range 3 {
		free = append(free, timedSave(t, s, streams, "free"))
	}
	proxy.SetRate(5_000_000)
	for range 2 {
		throttled = append(throttled, timedSave(t, s, streams, "throttled"))
	}
	t.Logf("etcd's stream was open for %v without and %v with S3 at 5 MB/s", free, throttled)
}

// timedSave saves and returns how long etcd's stream was open.
func timedSave(t *testing.T, s *service, streams func() []time.Duration, prefix string) time.Duration {
	t.Helper()
	before := len(streams())
	begin := time.Now()
	s.must("save", "--name-prefix", prefix)
	t.Logf("%s: the save took %v", prefix, time.Since(begin).Round(time.Millisecond))
	eventually(t, "the span of the stream arrives", func() bool { return len(streams()) > before })
	all := streams()
	return all[len(all)-1]
}
