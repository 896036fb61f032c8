//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// TestManyObjectsCostNoRequestEach is acceptance 7: a bucket full of snapshots that the catalog does not know,
// reconciled once to learn them and once more with nothing to do. Requests, time and memory are logged.
func TestManyObjectsCostNoRequestEach(t *testing.T) {
	n := int(envInt(t, "SNAPSHOTD_E2E_OBJECTS", 2000)) / 2
	w := newWorld(t, 0)
	proxy := testenv.StartHTTPProxy(t, w.s3.Addr(), nil)
	s := start(t, w.options(), "--etcd-endpoints", w.etcd.Endpoints()[0], "--data-dir", t.TempDir(), "--node-name",
		"node-1",
		"--reconcile-interval", "24h", "--backend", "s3="+w.s3URL(proxy.Addr()))
	s.must("save")
	w.multiply(t, s.list()[0].Name, n)

	first := w.measure(t, s, proxy, "first")
	if first.Added != int64(n-1) || first.Listed != int64(n) {
		t.Errorf("first: %+v", first)
	}
	before := proxy.Counts()
	second := w.measure(t, s, proxy, "second")
	if second.Unchanged != int64(n) || second.Added+second.Updated+second.Removed > 0 {
		t.Errorf("second: %+v", second)
	}
	for _, op := range []string{"GetObject", "HeadObject"} {
		if made := proxy.Counts()[op] - before[op]; made > 5 {
			t.Errorf("the second run made %d requests %s", made, op)
		}
	}
}

// multiply copies a snapshot until there are n.
func (w *world) multiply(t *testing.T, name string, n int) {
	t.Helper()
	data, doc := w.object(t, "default/"+name+".db.zst"), w.object(t, "default/"+name+".json")
	cut := strings.LastIndex(name, "-") + 1
	unix, err := strconv.Atoi(name[cut:])
	if err != nil {
		t.Fatal(err)
	}
	client := w.s3.Client()
	var wg sync.WaitGroup
	const workers = 8
	for k := range workers {
		wg.Go(func() {
			for i := k + 1; i < n; i += workers {
				copied := fmt.Sprintf("%s%d", name[:cut], unix-i)
				for suffix, content := range map[string][]byte{".db.zst": data,
					".json": bytes.ReplaceAll(doc, []byte(name), []byte(copied))} {
					_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
						Bucket: aws.String(w.bucket), Key: aws.String("etcd/default/" + copied + suffix), Body: bytes.NewReader(content),
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

type backendReport struct{ Listed, Unchanged, Added, Updated, Removed, Swept, Foreign int64 }

// measure reconciles and logs the cost.
func (w *world) measure(t *testing.T, s *service, proxy *testenv.HTTPProxy, which string) backendReport {
	t.Helper()
	before := proxy.Counts()
	stop := s.samplePeak()
	begin := time.Now()
	rec, r := s.reconcile("--timeout", "30m")
	took := time.Since(begin)
	peak := stop()
	if r.code != 0 || len(rec.Backends) != 1 {
		t.Fatalf("%s reconcile: exit code %d: %s", which, r.code, r.stderr)
	}
	made := map[string]int{}
	for op, n := range proxy.Counts() {
		if n > before[op] {
			made[op] = n - before[op]
		}
	}
	t.Logf("%s reconcile: requests %v, %.1f s, peak RssAnon %.1f MiB", which, made, took.Seconds(), mib(peak))
	b := rec.Backends[0]
	return backendReport{b.Listed, b.Unchanged, b.Added, b.Updated, b.Removed, b.Swept, b.Foreign}
}

// TestHandEditsAreFollowedAndAnUnreadableDirectoryForgetsNothing is acceptance 6 through the program. Root may read
// everything, so the service runs as another user when the test is root.
func TestHandEditsAreFollowedAndAnUnreadableDirectoryForgetsNothing(t *testing.T) {
	w := newWorld(t, 0)
	o := w.options()
	base, err := os.MkdirTemp("", "snapshotd-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	w.dir = filepath.Join(base, "snapshots")
	data := filepath.Join(base, "data")
	for _, dir := range []string{w.dir, data} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		o.uid = 65534
		for _, dir := range []string{base, w.dir, data} {
			if err := os.Chown(dir, o.uid, o.uid); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(filepath.Dir(program(t, "")), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, o, "--etcd-endpoints", w.etcd.Endpoints()[0], "--data-dir", data, "--node-name", "node-1",
		"--backend", "local=file://"+w.dir, "--backend", "s3="+w.s3URL(""))
	for range 3 {
		s.must("save")
	}
	snaps := s.list()
	for _, suffix := range []string{".db.zst", ".json"} {
		if err := os.Remove(filepath.Join(w.dir, "default", snaps[0].Name+suffix)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(w.dir, "default", snaps[1].Name+suffix),
			filepath.Join(w.dir, "default", "renamed"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(w.dir, "default", "notes.txt"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	rec, r := s.reconcile()
	if b := rec.Backends[0]; r.code != 0 || b.Removed != 2 || b.Unchanged != 1 || b.Foreign != 3 {
		t.Errorf("after hand edits: exit code %d, %+v", r.code, b)
	}
	rec, _ = s.reconcile()
	if b := rec.Backends[0]; b.Added+b.Updated+b.Removed+b.Swept > 0 || b.Unchanged != 1 {
		t.Errorf("second run: %+v", b)
	}
	before := s.must("list", "-o", "json")
	for _, dir := range []string{w.dir, filepath.Join(w.dir, "default")} {
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
		_, r = s.reconcile()
		if r.code != 3 || !strings.Contains(r.stderr, "permission denied") {
			t.Errorf("chmod 000 %s: exit code %d: %s", filepath.Base(dir), r.code, r.stderr)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(w.dir, w.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, r = s.reconcile(); r.code != 3 {
		t.Errorf("unmounted: exit code %d: %s", r.code, r.stderr)
	}
	t.Logf("unmounted:\n%s", r.stderr)
	if err := os.Rename(w.dir+".away", w.dir); err != nil {
		t.Fatal(err)
	}
	if after := s.must("list", "-o", "json"); after != before {
		t.Errorf("the catalog has changed:\n%s\nbefore\n%s", after, before)
	}
	if _, r = s.reconcile(); r.code != 0 {
		t.Errorf("when all is well again: exit code %d: %s", r.code, r.stderr)
	}
}
