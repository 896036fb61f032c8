//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/snapshotd/snapshotd/internal/testenv"
	catalogv1 "github.com/snapshotd/snapshotd/proto/snapshotd/catalog/v1"
	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

const (
	oldFixtureDir = "testdata/before-rooms"
	oldCommit     = "a62948a"
	catalogKeys   = "/snapshotd/v1/"
	leaderKey     = catalogKeys + "default/leader"
	lockKey       = catalogKeys + "default/lock/save"
)

// Files of another program among the snapshots, and the request id of the snapshot whose name begins with plain-.
const (
	k3sFile    = "etcd-snapshot-server-1-1700000000"
	k3sZip     = "on-demand-server-1-1700000100.zip"
	oldRequest = "first"
)

// pair is a key of the catalog, in JSON as base64.
type pair struct{ Key, Value []byte }

// oldFixture is a world with the store of the version of [oldCommit]: two backends, the data directory of its replica
// node-1, and its catalog.
type oldFixture struct {
	*world
	t      *testing.T
	o      options // of the version that reads it
	path   string  // of its program
	client *clientv3.Client
	data   string // directory of node-1
}

// loadOldFixture copies testdata/before-rooms to a new etcd, directory and bucket. Binary is the program that will
// read it; this version's when it is empty.
func loadOldFixture(t *testing.T, binary string) *oldFixture {
	t.Helper()
	f := &oldFixture{world: newWorld(t, 0), t: t, path: binary, data: t.TempDir()}
	if f.path == "" {
		f.path = program(t, "")
	}
	f.o = f.options()
	f.o.binary = binary
	f.client = f.etcd.Client(t)
	for from, to := range map[string]string{"local": f.dir, "data": f.data} {
		if err := os.CopyFS(to, os.DirFS(filepath.Join(oldFixtureDir, from))); err != nil {
			t.Fatal(err)
		}
	}
	f.upload(filepath.Join(oldFixtureDir, "s3"))
	setModTimes(t, f.dir, filepath.Join(f.s3.Dir(), f.bucket, "etcd"))
	var pairs []pair
	decode(t, f.stored("catalog.json"), &pairs)
	for _, p := range pairs {
		if _, err := f.client.Put(t.Context(), string(p.Key), string(p.Value)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// setModTimes gives the files of K3s the time of modification that is in their names. Git keeps none, and the catalog
// compares it to see whether a file has changed.
func setModTimes(t *testing.T, dirs ...string) {
	t.Helper()
	for _, file := range []string{k3sFile, k3sZip} {
		name := strings.TrimSuffix(file, ".zip")
		unix, err := strconv.ParseInt(name[strings.LastIndex(name, "-")+1:], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(unix, 0)
		for _, dir := range dirs {
			if err := os.Chtimes(filepath.Join(dir, "default", file), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// stored reads a file of the fixture.
func (f *oldFixture) stored(name string) string {
	f.t.Helper()
	doc, err := os.ReadFile(filepath.Join(oldFixtureDir, name))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(doc)
}

// upload puts the files of a directory into the bucket.
func (f *oldFixture) upload(dir string) {
	f.t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		_, err = f.s3.Client().PutObject(f.t.Context(), &s3.PutObjectInput{
			Bucket: aws.String(f.bucket), Key: aws.String("etcd/" + path), Body: bytes.NewReader(content),
		})
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// config writes the configuration of a replica. It has the keys with which the fixture was encrypted and signed.
func (f *oldFixture) config(node, data, more string) string {
	f.t.Helper()
	dir, err := filepath.Abs(oldFixtureDir)
	if err != nil {
		f.t.Fatal(err)
	}
	file := filepath.Join(f.t.TempDir(), "snapshotd.yaml")
	doc := fmt.Sprintf(`
data_dir: %s
node_name: %s
reconcile_interval: 1h
clusters:
  - name: default
    etcd: {endpoints: [%q]}
    lock_ttl: 2s
    leftover_age: 1s
    encryption: {recipients_file: %q, identity_files: [%q]}
    signing: {key_file: %q, accept_unsigned: true}
    backends:
      - {name: local, url: %q}
      - {name: s3, url: %q}
%s`, data, node, f.etcd.Endpoints()[0], filepath.Join(dir, "keys", "recipient"),
		filepath.Join(dir, "keys", "identity.txt"), filepath.Join(dir, "keys", "signing.pem"),
		"file://"+f.dir, f.s3URL(""), more)
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return file
}

// holdLeadership takes the leadership of the cluster until the returned function is called. Meanwhile no replica
// reconciles, repairs or prunes by itself.
func holdLeadership(t *testing.T, client *clientv3.Client) (resign func()) {
	t.Helper()
	var lease clientv3.LeaseID
	eventually(t, "nobody leads", func() bool {
		granted, err := client.Grant(t.Context(), 600)
		if err != nil {
			t.Fatal(err)
		}
		lease = granted.ID
		vacant := clientv3.Compare(clientv3.CreateRevision(leaderKey), "=", 0)
		put := clientv3.OpPut(leaderKey, "test", clientv3.WithLease(lease))
		resp, err := client.Txn(t.Context()).If(vacant).Then(put).Commit()
		if err != nil {
			t.Fatal(err)
		}
		if !resp.Succeeded {
			_, err = client.Revoke(t.Context(), lease)
		}
		return err == nil && resp.Succeeded
	})
	return func() {
		if _, err := client.Revoke(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
	}
}

// shown is what a version shows of the fixture, by the name of the golden file: snapshots, or the decisions of prune.
type shown map[string][]any

// fixtureRetention lets the rules decide about all kinds of snapshots.
const fixtureRetention = "    retention: {keep_last: 2, keep_monthly: 2, min_keep: 1, on_demand: true, adopted: true}\n"

// observe returns what the version shows of the fixture. It changes nothing meanwhile, because another replica leads.
func (f *oldFixture) observe() shown {
	f.t.Helper()
	resign := holdLeadership(f.t, f.client)
	defer resign()
	s := start(f.t, f.o, "--config", f.config("node-2", f.t.TempDir(), fixtureRetention))
	defer s.kill()
	all := shown{"listed": s.shows("snapshots", "list")}
	for _, sn := range all["listed"] {
		var got map[string]any
		decode(f.t, s.must("get", entryName(sn), "-o", "json"), &got)
		if normalize(got["snapshot"]); !reflect.DeepEqual(got["snapshot"], sn) {
			f.t.Errorf("get says %v and list %v", got["snapshot"], sn)
		}
	}
	all["pruned"] = s.shows("decisions", "prune", "--dry-run")
	for name, from := range f.places() {
		all["from-"+name] = entries(f.t, f.must(f.t, f.path, "list", "--from", from, "-o", "json"), "snapshots")
	}
	return all
}

func (f *oldFixture) places() map[string]string {
	return map[string]string{"local": "file://" + f.dir, "s3": f.s3URL("")}
}

// settle starts node-1 as the leader, and returns it when it has settled the interrupted saves of the fixture,
// repaired the missing copies and delivered the snapshot in its data directory.
func (f *oldFixture) settle() *service {
	f.t.Helper()
	s := start(f.t, f.o, "--config", f.config("node-1", f.data, ""))
	quiet := 0
	eventually(f.t, "the fixture is settled", func() bool {
		rec, r := s.reconcile("--repair")
		quiet++
		for _, at := range rec.Backends {
			if at.Error != nil || at.Added+at.Updated+at.Removed+at.Repaired+at.Swept > 0 {
				quiet = 0
			}
		}
		for _, sn := range s.list() {
			if sn.unsettled() || strings.HasPrefix(sn.Name, "kept-") && sn.State != "STATE_READY" {
				quiet = 0
			}
		}
		return r.code == 0 && quiet >= 2
	})
	return s
}

// unsettled reports whether a save or a repair still has to end.
func (sn snap) unsettled() bool { return sn.State == "STATE_SAVING" || sn.State == "STATE_PARTIAL" }

// TestOldVersionsStoreIsReadAndKept runs this version on the store of an older one, and compares its answers with
// those that the older version gave: the golden files of testdata/before-rooms.
func TestOldVersionsStoreIsReadAndKept(t *testing.T) {
	f := loadOldFixture(t, "")
	want := f.golden()
	got := f.observe()
	t.Run("is shown as it was", func(t *testing.T) {
		for _, view := range []string{"listed", "from-local", "from-s3"} {
			compare(t, view, want[view], got[view], exactly)
		}
		compare(t, "pruned", want["pruned"], got["pruned"], sameRule)
	})
	s := f.settle()
	settled := s.shows("snapshots", "list")
	t.Run("is settled as it was", func(t *testing.T) {
		compare(t, "settled", withoutExpired(t, want["settled"]), settled, sameState)
		unchanged(t, want, got["listed"], settled)
	})
	t.Run("is verified", func(t *testing.T) { f.verify(t, s) })
	t.Run("is restored", func(t *testing.T) { f.restore(t) })
	t.Run("is updated and keeps the rest", func(t *testing.T) { f.update(t, s) })
	t.Run("answers the same request", func(t *testing.T) {
		resp, err := s.client().Save(t.Context(), &snapshotdv1.SaveRequest{RequestId: oldRequest, NamePrefix: "plain"})
		if err != nil || f.byPrefix(t, settled, "plain-") != resp.GetSnapshot().GetName() {
			t.Errorf("the request was answered with %s, %v", resp.GetSnapshot().GetName(), err)
		}
	})
}

func (f *oldFixture) golden() shown {
	all := shown{}
	for _, name := range []string{"listed", "pruned", "from-local", "from-s3", "settled"} {
		var list []any
		decode(f.t, f.stored(filepath.Join("golden", name+".json")), &list)
		all[name] = list
	}
	return all
}

// byPrefix returns the name of the only snapshot whose name begins so.
func (f *oldFixture) byPrefix(t *testing.T, list []any, prefix string) string {
	t.Helper()
	var found []string
	for _, sn := range list {
		if strings.HasPrefix(entryName(sn), prefix) {
			found = append(found, entryName(sn))
		}
	}
	if len(found) != 1 {
		t.Fatalf("snapshots %s*: %q", prefix, found)
	}
	return found[0]
}

// withoutExpired leaves out the records of failed saves that are older than a day, because the service removes them.
func withoutExpired(t *testing.T, list []any) []any {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(list), func(sn any) bool {
		created, err := time.Parse(time.RFC3339, field[string](sn, "createTime"))
		if err != nil {
			t.Fatal(err)
		}
		return field[string](sn, "state") == "STATE_FAILED" && time.Since(created) > 24*time.Hour
	})
}

// unchanged checks that a record which the older version left alone was not written by this one either.
func unchanged(t *testing.T, want shown, listed, settled []any) {
	t.Helper()
	find := func(list []any, name string) any {
		i := slices.IndexFunc(list, func(sn any) bool { return entryName(sn) == name })
		if i < 0 {
			return nil
		}
		return list[i]
	}
	n := 0
	for _, sn := range want["settled"] {
		name := entryName(sn)
		if field[string](sn, "state") == "STATE_FAILED" || !reflect.DeepEqual(sn, find(want["listed"], name)) {
			continue
		}
		n++
		was, is := find(listed, name), find(settled, name)
		if !reflect.DeepEqual(was, is) { // the etag, which is the revision of the record, included
			t.Errorf("the record of %s was changed: %v, and was %v", name, is, was)
		}
	}
	if n < 8 {
		t.Errorf("only %d records are to stay as they are", n)
	}
}

// hashes returns the HashKV of the etcd that was saved, by the names of the snapshots.
func (f *oldFixture) hashes(t *testing.T) (all map[string]uint32) {
	t.Helper()
	decode(t, f.stored("hashkv.json"), &all)
	return all
}

func (f *oldFixture) verify(t *testing.T, s *service) {
	hashes := f.hashes(t)
	verified := 0
	for _, sn := range s.list() {
		if sn.State != "STATE_READY" {
			continue
		}
		verified++
		for _, l := range sn.Locations {
			if r := s.run("verify", sn.Name, "--level", "structure", "--backend", l.Backend); r.code != 0 {
				t.Errorf("%s on %s: exit code %d: %s%s", sn.Name, l.Backend, r.code, r.stdout, r.stderr)
			}
		}
		if strings.HasPrefix(sn.Name, "encrypted-") || sn.Name == strings.TrimSuffix(k3sZip, ".zip") {
			var drilled struct{ Snapshot *snapshotHash }
			decode(t, s.must("verify", sn.Name, "--level", "drill", "-o", "json"), &drilled)
			if drilled.Snapshot.Verification.HashKv != hashes[sn.Name] {
				t.Errorf("%s: HashKV is %d and was %d", sn.Name, drilled.Snapshot.Verification.HashKv, hashes[sn.Name])
			}
		}
	}
	if verified != len(hashes) {
		t.Errorf("%d snapshots are READY instead of %d", verified, len(hashes))
	}
}

type snapshotHash struct{ Verification struct{ HashKv uint32 } }

func (f *oldFixture) restore(t *testing.T) {
	for name, want := range f.hashes(t) {
		for backend, from := range f.places() {
			data := filepath.Join(t.TempDir(), "data")
			keys := filepath.Join(oldFixtureDir, "keys")
			args := []string{"restore", name, "--from", from, "--data-dir", data, "--identity", filepath.Join(keys, "identity.txt")}
			if strings.HasPrefix(name, "signed-") {
				args = append(args, "--signing-public-key-file", filepath.Join(keys, "signing.pub"))
			}
			f.must(t, f.path, args...)
			if got := restoredHash(t, data); got != want {
				t.Errorf("%s from %s: HashKV is %d and was %d", name, backend, got, want)
			}
		}
	}
}

// restoredHash returns the HashKV of a data directory of etcd.
func restoredHash(t *testing.T, data string) uint32 {
	t.Helper()
	etcdutl := testenv.Tool(t, "servers", "go.etcd.io/etcd/etcdutl/v3")
	out, err := exec.Command(etcdutl, "hashkv", filepath.Join(data, "member", "snap", "db"), "-w", "json").Output()
	if err != nil {
		t.Fatalf("etcdutl hashkv: %v", err)
	}
	var got struct{ Hash uint32 }
	decode(t, string(out), &got)
	return got.Hash
}

// update changes a label of each snapshot, and checks that the record keeps all else: the API does not show every
// field.
func (f *oldFixture) update(t *testing.T, s *service) {
	for _, sn := range s.list() {
		if sn.State != "STATE_READY" {
			continue
		}
		was := record(t, f.client, sn.Name)
		s.must("update", sn.Name, "--label", "updated=yes")
		is := record(t, f.client, sn.Name)
		if is.GetSnapshot().GetLabels()["updated"] != "yes" {
			t.Errorf("%s: labels %v", sn.Name, is.GetSnapshot().GetLabels())
		}
		delete(is.Snapshot.Labels, "updated")
		keepsFields(t, sn.Name, was.GetSnapshot(), is.GetSnapshot())
		was.Snapshot = nil
		keepsFields(t, sn.Name, was, is)
	}
	if _, r := s.reconcile(); r.code != 0 {
		t.Errorf("reconcile: exit code %d: %s", r.code, r.stderr)
	}
}

// keepsFields checks that a message still has the fields that another one has. It may have more.
func keepsFields(t *testing.T, name string, was, is proto.Message) {
	t.Helper()
	was.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if got := is.ProtoReflect().Get(fd); !v.Equal(got) {
			t.Errorf("%s: %s is %v, and was %v", name, fd.Name(), got, v)
		}
		return true
	})
}

// record reads a record from the catalog.
func record(t *testing.T, client *clientv3.Client, name string) *catalogv1.Record {
	t.Helper()
	resp, err := client.Get(t.Context(), catalogKeys+"default/snapshots/"+name+".~")
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("read the record of %s: %v, %v", name, resp, err)
	}
	var m catalogv1.Record
	if err := proto.Unmarshal(resp.Kvs[0].Value, &m); err != nil {
		t.Fatal(err)
	}
	return &m
}
