//go:build e2e

package e2e

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"
)

// TestMigratingFromK3s follows docs/migrating-from-k3s.md with the files that K3s leaves in a directory and in a
// bucket.
func TestMigratingFromK3s(t *testing.T) {
	w := newWorld(t, 0)
	w.dir = filepath.Join(w.dir, "db", "snapshots") // as in K3s, the metadata of a snapshot is in the directory above
	above := filepath.Join(filepath.Dir(w.dir), ".metadata")
	for _, dir := range []string{w.dir, above} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.etcd.Client(t).Put(t.Context(), "/registry/x", "y"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "db")
	if _, err := snapshot.SaveWithVersion(t.Context(), zap.NewNop(), clientv3.Config{Endpoints: w.etcd.Endpoints()},
		path); err != nil {
		t.Fatal(err)
	}
	db, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const plain, zipped = "etcd-snapshot-server-1-1700000000", "on-demand-server-1-1700000100.zip"
	files := map[string][]byte{plain: db, zipped: zipOf(t, db), "notes.txt": []byte("mine")}
	hourAgo := time.Now().Add(-time.Hour)
	for name, content := range files {
		local := filepath.Join(w.dir, name)
		if err := os.WriteFile(local, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := w.s3.Client().PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String(w.bucket), Key: aws.String("etcd/" + name), Body: bytes.NewReader(content),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{local, filepath.Join(w.s3.Dir(), w.bucket, "etcd", name)} {
			if err := os.Chtimes(p, hourAgo, hourAgo); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(above, plain), []byte(`{"clusterName": "on disk"}`), 0o700); err != nil {
		t.Fatal(err)
	}
	config := writeConfig(t, `
metrics_prefix: k3s_
clusters:
  - name: k3s
    prefix: ""
    etcd: {endpoints: [%q]}
    backends:
      - {name: local, url: %q}
      - {name: s3, url: %q}
`, w.etcd.Endpoints()[0], "file://"+w.dir, w.s3URL(""))
	s := start(t, w.options(), "--config", config)
	both := "READY: local READY, s3 READY"
	eventually(t, "both snapshots of K3s are adopted", func() bool {
		got := s.locations()
		return got[plain] == both && got[strings.TrimSuffix(zipped, ".zip")] == both
	})
	own := s.save()
	if got := s.locations(); len(got) != 3 || got[own] != both {
		t.Errorf("beside a new one: %v", got)
	}
	out := s.must("get", strings.TrimSuffix(zipped, ".zip"))
	for _, want := range []string{"ADOPTED", "ZIP", "server-1", "pinned"} {
		if !strings.Contains(out, want) {
			t.Errorf("get does not say %q:\n%s", want, out)
		}
	}
	rec, r := s.reconcile()
	for _, b := range rec.Backends {
		if r.code != 0 || b.Listed != 3 || b.Unchanged != 3 || b.Foreign != 1 {
			t.Errorf("a second reconcile: exit code %d, %+v", r.code, b)
		}
	}
	for name, content := range files {
		local, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil || !bytes.Equal(local, content) || !bytes.Equal(w.object(t, name), content) {
			t.Errorf("%s is not as it was: %v", name, err)
		}
	}
	for _, sn := range s.list() {
		if sn.Name == plain {
			if sn.Labels["clusterName"] != "on disk" {
				t.Errorf("labels of %s: %v", plain, sn.Labels)
			}
			compareWithEtcdutl(t, path, sn)
		}
		if sn.Name == strings.TrimSuffix(zipped, ".zip") {
			out := filepath.Join(t.TempDir(), "db")
			s.must("download", sn.Name, "--decoded", "--backend", "s3", "--output", out)
			compareWithEtcdutl(t, out, sn)
		}
	}
}

func zipOf(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	e, err := z.CreateHeader(&zip.FileHeader{Name: "etcd-snapshot", Method: zip.Deflate})
	if err == nil {
		_, err = e.Write(content)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
