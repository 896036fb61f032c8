//go:build e2e

package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"

	"github.com/snapshotd/snapshotd/internal/testenv"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// fixtureWriter makes testdata/before-rooms with the program of the older version. The catalog has an etcd of its
// own, which keeps the snapshots small.
type fixtureWriter struct {
	*world
	t       *testing.T
	binary  string
	catalog *testenv.Cluster
	client  *clientv3.Client // of the catalog's etcd
	source  *testenv.Proxy   // before the etcd that is saved
	faults  *testenv.HTTPProxy
	data    string // directory of node-1
	keys    string
}

// TestWriteOldFixture makes testdata/before-rooms anew, with its golden files. docs/development.md says how to run
// it.
func TestWriteOldFixture(t *testing.T) {
	binary := os.Getenv("SNAPSHOTD_OLD_BINARY")
	if os.Getenv("SNAPSHOTD_WRITE_OLD_FIXTURE") == "" || binary == "" {
		t.Skip("it writes testdata/before-rooms anew; set SNAPSHOTD_WRITE_OLD_FIXTURE=1 and SNAPSHOTD_OLD_BINARY")
	}
	if r := command(t.Context(), t, binary, "version"); !strings.Contains(r.stdout, "commit "+oldCommit) {
		t.Fatalf("%s is not of commit %s: %s", binary, oldCommit, r.stdout)
	}
	w := newFixtureWriter(t, binary)
	resign := holdLeadership(t, w.client)
	w.stored()
	w.adopted()
	resign()
	w.scheduled()
	w.partial()
	resign = holdLeadership(t, w.client)
	w.takenOver()
	w.interrupted()
	w.damaged()
	w.failed()
	w.kept()
	resign()
	w.write()
	w.writeGolden()
}

func newFixtureWriter(t *testing.T, binary string) *fixtureWriter {
	w := &fixtureWriter{world: newWorld(t, 0), t: t, binary: binary, data: t.TempDir(), keys: t.TempDir()}
	w.catalog = testenv.StartCluster(t, 1)
	w.client = w.catalog.Client(t)
	w.source = testenv.StartProxy(t, strings.TrimPrefix(w.etcd.Endpoints()[0], "http://"))
	w.faults = testenv.StartHTTPProxy(t, w.s3.Addr(), nil)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	files := signingFiles(t, public, private)
	files["identity.txt"] = []byte(identity.String() + "\n")
	files["recipient"] = []byte(identity.Recipient().String() + "\n")
	for name, content := range files {
		w.put(filepath.Join(w.keys, name), content)
	}
	w.fill()
	return w
}

// fill puts a few keys of every kind into the etcd that is saved: some live, one deleted, one on a lease.
func (w *fixtureWriter) fill() {
	client := w.etcd.Client(w.t)
	granted, err := client.Grant(w.t.Context(), 1_000_000_000)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range 20 {
		key := fmt.Sprintf("/registry/configmaps/default/settings-%02d", i)
		if _, err := client.Put(w.t.Context(), key, strings.Repeat("setting ", i)); err != nil {
			w.t.Fatal(err)
		}
	}
	_, err = client.Put(w.t.Context(), "/registry/leases/default/worker", "held", clientv3.WithLease(granted.ID))
	if err == nil {
		_, err = client.Delete(w.t.Context(), "/registry/configmaps/default/settings-07")
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// put writes a file, and its directory.
func (w *fixtureWriter) put(path string, content []byte) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// serve starts node-1 with more lines of configuration.
func (w *fixtureWriter) serve(more string) *service {
	w.t.Helper()
	config := filepath.Join(w.t.TempDir(), "snapshotd.yaml")
	w.put(config, []byte(`
data_dir: `+w.data+`
node_name: node-1
reconcile_interval: 1h
clusters:
  - name: default
    etcd: {endpoints: ["http://`+w.source.Addr()+`"]}
    catalog: {endpoints: ["`+w.catalog.Endpoints()[0]+`"]}
    lock_ttl: 2s
    backends:
      - {name: local, url: "file://`+w.dir+`"}
      - {name: s3, url: "`+w.s3URL(w.faults.Addr())+`"}
`+more))
	o := w.options()
	o.binary = w.binary
	return start(w.t, o, "--config", config)
}

// change gives the next snapshot a revision of its own.
func (w *fixtureWriter) change() {
	w.t.Helper()
	client := w.etcd.Client(w.t)
	for _, key := range []string{"/registry/pods/default/web", "/registry/leases/kube-system/scheduler"} {
		if _, err := client.Put(w.t.Context(), key, strings.Repeat(rand.Text(), 4)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// save changes etcd and takes a snapshot with a name prefix, which says what it is for.
func (w *fixtureWriter) save(s *service, prefix string, args ...string) string {
	w.t.Helper()
	w.change()
	return s.save(append(args, "--name-prefix", prefix)...)
}

// stored makes snapshots that are READY on both backends, with data in every form.
func (w *fixtureWriter) stored() {
	s := w.serve("")
	w.change()
	request := &snapshotdv1.SaveRequest{NamePrefix: "plain", RequestId: oldRequest}
	if _, err := s.client().Save(w.t.Context(), request); err != nil {
		w.t.Fatal(err)
	}
	s.must("verify", w.save(s, "drilled"), "--level", "drill")
	pinned := w.save(s, "pinned", "--label", "release=v1.2", "--label", "team=storage")
	s.must("update", pinned, "--pin", "--label", "reason=upgrade")
	s.kill()
	for prefix, more := range map[string]string{
		"uncompressed": "    compression: none\n",
		"encrypted":    fmt.Sprintf("    encryption: {recipients_file: %s/recipient, identity_files: [%[1]s/identity.txt]}\n", w.keys),
		"signed":       fmt.Sprintf("    signing: {key_file: %s/signing.pem, accept_unsigned: true}\n", w.keys),
	} {
		s := w.serve(more)
		s.must("verify", w.save(s, prefix), "--level", "structure")
		s.kill()
	}
}

// adopted puts two files of K3s on both backends, one of them zipped.
func (w *fixtureWriter) adopted() {
	path := filepath.Join(w.t.TempDir(), "db")
	from := clientv3.Config{Endpoints: w.etcd.Endpoints()}
	if _, err := snapshot.SaveWithVersion(w.t.Context(), zap.NewNop(), from, path); err != nil {
		w.t.Fatal(err)
	}
	db, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	metadata := []byte(`{"clusterName": "edge", "nodes": "3"}`)
	w.put(filepath.Join(w.dir, ".metadata", k3sFile), metadata)
	w.upload("default/.metadata/"+k3sFile, metadata)
	for file, content := range map[string][]byte{k3sFile: db, k3sZip: zipOf(w.t, db)} {
		w.put(filepath.Join(w.dir, "default", file), content)
		w.upload("default/"+file, content)
	}
	setModTimes(w.t, w.dir, filepath.Join(w.s3.Dir(), w.bucket, "etcd"))
	s := w.serve("")
	defer s.kill()
	if rec, r := s.reconcile(); r.code != 0 || rec.Backends[0].Added != 2 || rec.Backends[1].Added != 2 {
		w.t.Fatalf("adopt: exit code %d: %s %+v", r.code, r.stderr, rec)
	}
	s.must("update", strings.TrimSuffix(k3sZip, ".zip"), "--unpin") // so that prune has to decide about it
}

func (w *fixtureWriter) upload(key string, content []byte) {
	w.t.Helper()
	_, err := w.s3.Client().PutObject(w.t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(w.bucket), Key: aws.String("etcd/" + key), Body: strings.NewReader(string(content)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// scheduled lets a schedule run three times.
func (w *fixtureWriter) scheduled() {
	s := w.serve("    schedules: [{name: often, cron: \"@every 5s\", labels: {tier: often}}]\n")
	defer s.kill()
	eventually(w.t, "three runs are READY", func() bool {
		n := 0
		for _, sn := range s.list() {
			if sn.Labels["schedule"] == "often" && sn.State == "STATE_READY" {
				n++
			}
		}
		return n == 3
	})
}

// partial makes a snapshot that S3 does not take. It ends after the first repair, which fails, too.
func (w *fixtureWriter) partial() {
	s := w.serve("")
	defer s.kill()
	w.faults.Set(testenv.Answers(0, http.StatusServiceUnavailable, "SlowDown"))
	defer w.faults.Set(nil)
	name := w.lost(s, 3, "partial")
	eventually(w.t, "a repair was tried", func() bool {
		rec := record(w.t, w.client, name)
		return len(rec.GetRepairs()) > 0 && len(rec.GetFailures()) > 0
	})
}

// lost takes a snapshot that does not become READY, and returns its name.
func (w *fixtureWriter) lost(s *service, code int, prefix string) string {
	w.t.Helper()
	w.change()
	r := s.run("save", "--name-prefix", prefix)
	if r.code != code {
		w.t.Fatalf("save %s: exit code %d: %s", prefix, r.code, r.stderr)
	}
	return w.named(s, prefix)
}

// named returns the name of the only snapshot of a prefix.
func (w *fixtureWriter) named(s *service, prefix string) string {
	w.t.Helper()
	snaps := s.list()
	i := slices.IndexFunc(snaps, func(sn snap) bool { return strings.HasPrefix(sn.Name, prefix+"-") })
	if i < 0 {
		w.t.Fatalf("no snapshot %s-* in %+v", prefix, snaps)
	}
	return snaps[i].Name
}

// killSaving starts a save that gets no byte from etcd, and kills the service.
func (w *fixtureWriter) killSaving(prefix, request string) {
	w.t.Helper()
	s := w.serve("")
	w.source.Blackhole()
	defer w.source.Restore()
	client := s.client()
	var saving sync.WaitGroup
	saving.Go(func() {
		_, err := client.Save(w.t.Context(), &snapshotdv1.SaveRequest{NamePrefix: prefix, RequestId: request})
		if err == nil {
			w.t.Error("the save went through")
		}
	})
	eventually(w.t, "the save is in the catalog", func() bool {
		return strings.Contains(s.must("list", "--state", "saving"), prefix+"-")
	})
	s.kill()
	saving.Wait()
	w.unlocked()
}

// unlocked waits until the lock of a dead save has run out.
func (w *fixtureWriter) unlocked() {
	w.t.Helper()
	eventually(w.t, "nobody saves", func() bool {
		resp, err := w.client.Get(w.t.Context(), lockKey)
		if err != nil {
			w.t.Fatal(err)
		}
		return len(resp.Kvs) == 0
	})
}

// takenOver makes a snapshot for a request whose first save was killed.
func (w *fixtureWriter) takenOver() {
	w.killSaving("dead", "taken-over")
	s := w.serve("")
	defer s.kill()
	w.change()
	request := &snapshotdv1.SaveRequest{NamePrefix: "heir", RequestId: "taken-over"}
	if _, err := s.client().Save(w.t.Context(), request); err != nil {
		w.t.Fatal(err)
	}
	if rec := record(w.t, w.client, w.named(s, "dead")); rec.GetSupersededBy() == "" {
		w.t.Fatalf("not taken over: %v", rec)
	}
}

// interrupted leaves two records SAVING whose owner is gone. Nothing was stored of the first one; of the second one,
// S3 has the data and no manifest.
func (w *fixtureWriter) interrupted() {
	w.killSaving("early", "")
	s := w.serve("")
	w.change()
	reached, drop := holdPuts(w.faults, ".json")
	var saving sync.WaitGroup
	saving.Go(func() { s.run("save", "--name-prefix", "late") })
	<-reached
	eventually(w.t, "the directory has the snapshot", func() bool {
		found, err := filepath.Glob(filepath.Join(w.dir, "default", "late-*.json"))
		return err == nil && len(found) == 1
	})
	s.kill()
	drop()
	saving.Wait()
	w.unlocked()
}

// damaged makes a snapshot with a damaged copy in the directory, and verifies it.
func (w *fixtureWriter) damaged() {
	s := w.serve("")
	defer s.kill()
	name := w.save(s, "damaged")
	path := filepath.Join(w.dir, "default", name+".db.zst")
	content, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	w.put(path, content)
	if r := s.run("verify", name, "--backend", "local"); r.code != 4 {
		w.t.Fatalf("verify: exit code %d: %s", r.code, r.stderr)
	}
}

// failed makes a record of a save that got nothing from etcd.
func (w *fixtureWriter) failed() {
	s := w.serve("")
	defer s.kill()
	w.source.Cut()
	defer w.source.Restore()
	name := w.lost(s, 1, "failed")
	if rec := record(w.t, w.client, name); len(rec.GetFailures()) == 0 || rec.GetKeptOn() != "" {
		w.t.Fatalf("not failed: %v", rec)
	}
}

// kept makes a snapshot that no backend takes. It must be the newest, because the service gives up an older one.
func (w *fixtureWriter) kept() {
	s := w.serve("")
	defer s.kill()
	w.faults.Set(testenv.Answers(0, http.StatusServiceUnavailable, "SlowDown"))
	defer w.faults.Set(nil)
	if err := os.Rename(w.dir, w.dir+".away"); err != nil {
		w.t.Fatal(err)
	}
	name := w.lost(s, 1, "kept")
	if rec := record(w.t, w.client, name); rec.GetKeptOn() != "node-1" {
		w.t.Fatalf("it is not kept: %v", rec)
	}
	if err := os.Rename(w.dir+".away", w.dir); err != nil {
		w.t.Fatal(err)
	}
}

// write replaces the fixture, except its README.
func (w *fixtureWriter) write() {
	for _, old := range []string{"local", "s3", "data", "keys", "golden"} {
		if err := os.RemoveAll(filepath.Join(oldFixtureDir, old)); err != nil {
			w.t.Fatal(err)
		}
	}
	kept := filepath.Join(w.data, "kept")
	for from, to := range map[string]string{w.dir: "local", kept: "data/kept", w.keys: "keys"} {
		if err := os.CopyFS(filepath.Join(oldFixtureDir, to), os.DirFS(from)); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, key := range append(w.objects(w.t), "etcd/snapshotd-store.json") {
		key = strings.TrimPrefix(key, "etcd/")
		w.put(filepath.Join(oldFixtureDir, "s3", key), w.object(w.t, key))
	}
	resp, err := w.client.Get(w.t.Context(), catalogKeys, clientv3.WithPrefix())
	if err != nil {
		w.t.Fatal(err)
	}
	var pairs []pair
	for _, kv := range resp.Kvs {
		if kv.Lease == 0 { // a lock ends with its owner
			pairs = append(pairs, pair{kv.Key, append([]byte{}, kv.Value...)})
		}
	}
	w.put(filepath.Join(oldFixtureDir, "catalog.json"), indented(w.t, pairs))
}

// writeGolden writes the answers of the older version to questions about the fixture, and the hashes of the saved
// etcd.
func (w *fixtureWriter) writeGolden() {
	f := loadOldFixture(w.t, w.binary)
	all := f.observe()
	all["settled"] = f.settle().shows("snapshots", "list")
	for name, list := range all {
		for _, v := range list {
			if m, ok := v.(map[string]any); ok {
				delete(m, "etag")
			}
		}
		w.put(filepath.Join(oldFixtureDir, "golden", name+".json"), indented(w.t, list))
	}
	hashes := map[string]uint32{}
	var settled []snap
	decode(w.t, string(indented(w.t, all["settled"])), &settled)
	for _, sn := range settled {
		if sn.State == "STATE_READY" {
			hashes[sn.Name] = liveHash(w.t, w.etcd.Client(w.t), w.etcd.Endpoints()[0], sn.Revision)
		}
	}
	w.put(filepath.Join(oldFixtureDir, "hashkv.json"), indented(w.t, hashes))
}
