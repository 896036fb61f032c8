//go:build e2e

package e2e

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"

	"github.com/snapshotd/snapshotd/internal/testenv"
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
	doc := readDoc(t, "migrating-from-k3s.md")
	config := writeConfig(t, "%s", migrated(t, w, doc))
	s := start(t, w.options(), "--config", config)
	both := "READY: local@node-1 READY, s3 READY"
	eventually(t, "both snapshots of K3s are adopted, and the schedule has its first one", func() bool {
		got := s.locations()
		return len(got) == 3 && got[plain] == both && got[strings.TrimSuffix(zipped, ".zip")] == both && got[s.newest(t)] == both
	})
	s.follow(t, doc, "## 2.", config, "")
	s.follow(t, doc, "## 3.", config, "")
	s.follow(t, doc, "## 4.", config, "")
	own := s.newest(t)
	if got := s.locations(); len(got) != 4 || got[own] != both {
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
		if r.code != 0 || b.Listed != 4 || b.Unchanged != 4 || b.Foreign != 1 {
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
	s.follow(t, doc, "## 6.", config, plain)
	if _, there := s.locations()[plain]; there {
		t.Errorf("%s is still there", plain)
	}
}

// migrated returns the configuration of the page for the directory, the bucket and the etcd of a test.
func migrated(t *testing.T, w *world, doc string) string {
	t.Helper()
	_, config, _ := strings.Cut(doc, "```yaml\n")
	config, _, _ = strings.Cut(config, "```")
	var kept []string
	for line := range strings.Lines(config) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "data_dir", "ca_cert", "cert", "key": // of writeConfig, and of an etcd with TLS
		default:
			kept = append(kept, line)
		}
	}
	return strings.NewReplacer("https://127.0.0.1:2379", w.etcd.Endpoints()[0],
		"file:///var/lib/rancher/k3s/server/db/snapshots", "file://"+w.dir,
		"s3://BUCKET?region=REGION&prefix=FOLDER/", w.s3URL("")).Replace(strings.Join(kept, ""))
}

// follow runs the commands of a section of a page, with this configuration and this name of a snapshot.
func (s *service) follow(t *testing.T, doc, section, config, name string) {
	t.Helper()
	_, text, _ := strings.Cut(doc, "\n"+section)
	text, _, _ = strings.Cut(text, "\n## ")
	n := 0
	for line := range strings.Lines(text) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "snapshotd ")
		if !ok || strings.ContainsAny(text, "`,;") {
			continue // prose
		}
		n++
		args := strings.Fields(strings.NewReplacer("/etc/snapshotd/snapshotd.yaml", config, "NAME", name).Replace(text))
		if args[0] == "config" {
			if r := command(t.Context(), t, s.path, args...); r.code != 0 {
				t.Errorf("%s: %s", text, r.stderr)
			}
			continue
		}
		s.must(args...)
	}
	if n == 0 {
		t.Errorf("%s has no commands", section)
	}
}

// newest returns the name of the newest snapshot.
func (s *service) newest(t *testing.T) string {
	t.Helper()
	all := s.list()
	if len(all) == 0 {
		t.Fatal("there is none")
	}
	return all[0].Name
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(testenv.Root(), "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// k3s imitates what docs/disaster.md says of K3s: it refuses a path that is no plain snapshot and a reset while the
// service runs, moves the old data aside, and restores with etcd's own tool.
const k3s = `#!/bin/sh
set -e
for a in "$@"; do case "$a" in
  --cluster-reset-restore-path=*) path=${a#*=} ;;
  --etcd-s3=false) local=yes ;;
esac; done
[ "$local" = yes ] && [ ! -e "$ROOT/running" ]
[ ! -e "$ROOT/server/db/etcd" ] || mv "$ROOT/server/db/etcd" "$ROOT/server/db/etcd-old-1"
etcdutl snapshot restore "$path" --data-dir "$ROOT/server/db/etcd"
`

const systemctl = `#!/bin/sh
[ "$1" = start ] && touch "$ROOT/running" || rm -f "$ROOT/running"
`

// TestRestoringK3s follows docs/disaster.md on two servers of K3s, of which this machine has the files and no program.
// The directories of snapshots, which are backends, are as they were before.
func TestRestoringK3s(t *testing.T) {
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Skip("there is no zstd")
	}
	root, programs := t.TempDir(), t.TempDir()
	w := newWorld(t, 1<<20)
	w.dir = filepath.Join(root, "server", "db", "snapshots")
	for _, dir := range []string{w.dir, filepath.Join(root, "server", "db", "etcd")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, w.options(), "--etcd-endpoints", w.etcd.Endpoints()[0], "--data-dir", t.TempDir(), "--node-name", "server-1",
		"--backend", "local=file://"+w.dir+"?node_local=true")
	name := s.save()
	s.kill() // the page is about a cluster with prefix ""
	for _, suffix := range []string{".db.zst", ".json"} {
		if err := os.Rename(filepath.Join(w.dir, "default", name+suffix), filepath.Join(w.dir, name+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	for file, content := range map[string]string{"k3s": k3s, "systemctl": systemctl} {
		if err := os.WriteFile(filepath.Join(programs, file), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for file, target := range map[string]string{"snapshotd": s.path, "etcdutl": testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3")} {
		if err := os.Symlink(target, filepath.Join(programs, file)); err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, w.dir)
	b := &runbook{doc: readDoc(t, "disaster.md")}
	for _, step := range b.commands(t, "K3s and RKE2") {
		step = strings.NewReplacer("/var/lib/rancher/k3s", root, "URL", "'file://"+w.dir+"'", "NAME", name).Replace(step)
		cmd := exec.CommandContext(t.Context(), "sh", "-c", step)
		cmd.Env = append(os.Environ(), "ROOT="+root, "PATH="+programs+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", step, err, out)
		}
	}
	if after := files(t, w.dir); !slices.Equal(before, after) {
		t.Errorf("the backend had %q, and has %q", before, after)
	}
	for _, dir := range []string{filepath.Join(root, "etcd.lost", "member"), filepath.Join(root, "server", "db", "etcd-old-1")} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

// files returns the names in a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
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
