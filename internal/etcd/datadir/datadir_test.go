package datadir_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv/check"
	"github.com/snapshotd/snapshotd/internal/testenv/embedded"
)

var must = check.OK

// TestMakeMakesWhatEtcdutlMakes compares every key of every bucket, and every other file.
func TestMakeMakesWhatEtcdutlMakes(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(t *testing.T, c *clientv3.Client){
		"nothing": func(*testing.T, *clientv3.Client) {},
		"deleted": putThenDelete,
		"all":     putAll,
	} {
		file := save(t, fill)
		for what, edit := range map[string]func(*snapshot.RestoreConfig){
			"as it is": func(*snapshot.RestoreConfig) {},
			"bumped":   func(cfg *snapshot.RestoreConfig) { cfg.RevisionBump, cfg.MarkCompacted = 1_000_000_000, true },
			"three members": func(cfg *snapshot.RestoreConfig) {
				cfg.InitialCluster += ",b=http://localhost:2480,c=http://localhost:2580"
			},
			"the WAL apart": func(cfg *snapshot.RestoreConfig) { cfg.OutputWALDir = filepath.Join(t.TempDir(), "wal") },
		} {
			if name != "all" && (what == "three members" || what == "the WAL apart") {
				continue // they depend on nothing in the database
			}
			t.Run(name+", "+what, func(t *testing.T) {
				restored := func(restore func(snapshot.RestoreConfig) error) map[string][]byte {
					dir := t.TempDir()
					cfg := snapshot.RestoreConfig{
						SnapshotPath: filepath.Join(dir, "snapshot.db"), OutputDataDir: filepath.Join(dir, "data"), Name: "a",
						PeerURLs: []string{"http://localhost:2380"}, InitialCluster: "a=http://localhost:2380",
						InitialClusterToken: "token",
					}
					edit(&cfg)
					if cfg.OutputWALDir != "" {
						cfg.OutputWALDir = filepath.Join(dir, "wal")
					}
					copyFile(t, file, cfg.SnapshotPath)
					if err := restore(cfg); err != nil {
						t.Fatal(err)
					}
					_ = os.Remove(cfg.SnapshotPath)
					return contents(t, dir)
				}
				want, got := restored(snapshot.NewV3(zap.NewNop()).Restore), restored(func(cfg snapshot.RestoreConfig) error { return datadir.Make(cfg) })
				for _, made := range []map[string][]byte{want, got} {
					const name = "data/member/snap/0000000000000001-0000000000000003.snap"
					if _, ok := made[name]; ok {
						made[name] = nil // of three members, which have a random order in it
					}
				}
				if len(want) < 5 {
					t.Fatalf("only %d things are compared", len(want))
				}
				for _, k := range slices.Sorted(maps.Keys(want)) {
					if v, ok := got[k]; !ok || !bytes.Equal(v, want[k]) {
						t.Errorf("%s is %.80q (there: %t), and etcdutl makes %.80q", k, v, ok, want[k])
					}
					delete(got, k)
				}
				for k := range got {
					t.Errorf("%s is not made by etcdutl", k)
				}
			})
		}
	}
}

func TestMakeRefusesWhatIsNoDatabase(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		write func(path string) error
		why   string
	}{
		"nothing":     {func(path string) error { return os.WriteFile(path, nil, 0o600) }, "it is empty"},
		"text":        {func(path string) error { return os.WriteFile(path, []byte("not a database"), 0o600) }, "invalid database"},
		"zeros":       {func(path string) error { return os.WriteFile(path, make([]byte, 1<<16), 0o600) }, "invalid database"},
		"of another":  {func(path string) error { return writeForeign(path, "mine") }, "it has no bucket"},
		"no revision": {func(path string) error { return writeForeign(path, "key", "meta") }, "is not as etcd makes it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "snapshot.db")
			must(t, tc.write(file))
			cfg := snapshot.RestoreConfig{
				SnapshotPath: file, OutputDataDir: filepath.Join(dir, "data"), Name: "a",
				PeerURLs:       []string{"http://localhost:2380"},
				InitialCluster: "a=http://localhost:2380", RevisionBump: 1, MarkCompacted: true,
			}
			if err := datadir.Make(cfg); err == nil || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("%v, want %q", err, tc.why)
			}
			if _, err := os.Stat(filepath.Join(cfg.OutputDataDir, "member", "wal")); err == nil {
				t.Error("there is a member")
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*.seed")); err != nil || len(left) > 0 {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}

// writeForeign makes a database that is bbolt's and not etcd's: each bucket has a key that is no revision.
func writeForeign(path string, buckets ...string) error {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			b, err := tx.CreateBucket([]byte(name))
			if err == nil {
				err = b.Put([]byte("key"), []byte("value"))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// contents is every key of a database and every other file below a directory.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			all[name] = nil
		case d.Name() == "db":
			return databaseContents(path, name, all)
		default:
			all[name], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func databaseContents(path, name string, all map[string][]byte) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return err
		}
		return tx.ForEach(func(bucket []byte, b *bolt.Bucket) error {
			all[fmt.Sprintf("%s %s", name, bucket)] = nil
			return b.ForEach(func(k, v []byte) error {
				all[fmt.Sprintf("%s %s %q", name, bucket, k)] = bytes.Clone(v)
				return nil
			})
		})
	})
}

// save is the snapshot of an etcd that was filled, as etcd sends it.
func save(t *testing.T, fill func(t *testing.T, c *clientv3.Client)) (file string) {
	t.Helper()
	e := embedded.StartEtcd(t, func(c *member.Config) { c.NoFsync = true })
	c := e.Client(t)
	fill(t, c)
	r, err := c.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	file = filepath.Join(t.TempDir(), "saved.db")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func putKeys(t *testing.T, c *clientv3.Client) {
	t.Helper()
	for i := range 300 {
		_, err := c.Put(t.Context(), fmt.Sprint("/registry/", i%100), string(bytes.Repeat([]byte{byte(i)}, 1000)))
		must(t, err)
	}
}

// putThenDelete leaves a deletion as the newest revision.
func putThenDelete(t *testing.T, c *clientv3.Client) {
	t.Helper()
	putKeys(t, c)
	_, err := c.Delete(t.Context(), "/registry/", clientv3.WithPrefix())
	must(t, err)
}

// putAll has something in every bucket that etcd fills.
func putAll(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	putKeys(t, c)
	resp, err := c.Get(ctx, "/registry/1")
	must(t, err)
	_, err = c.Compact(ctx, resp.Header.Revision-100)
	must(t, err)
	for range 50 {
		lease, err := c.Grant(ctx, 3600)
		must(t, err)
		_, err = c.Put(ctx, fmt.Sprint("/leased/", lease.ID), "", clientv3.WithLease(lease.ID))
		must(t, err)
	}
	_, err = c.RoleAdd(ctx, "root")
	must(t, err)
	_, err = c.UserAdd(ctx, "root", "password")
	must(t, err)
	_, err = c.UserGrantRole(ctx, "root", "root")
	must(t, err)
	added, err := c.MemberAddAsLearner(ctx, []string{"http://localhost:1"})
	must(t, err)
	_, err = c.MemberRemove(ctx, added.Member.ID)
	must(t, err)
	_, err = c.MemberAddAsLearner(ctx, []string{"http://localhost:2"})
	must(t, err)
	alarm := &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: added.Header.MemberId, Alarm: pb.AlarmType_NOSPACE,
	}
	_, err = pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(ctx, alarm)
	must(t, err)
}
