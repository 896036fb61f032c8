package database_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

// status returns the real etcdutl's status of a snapshot.
func status(tb testing.TB, path string) (database.Result, error) {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), etcdutl(tb), "snapshot", "status", "-w", "json", path).Output()
	if err != nil {
		return database.Result{}, err
	}
	var s struct {
		Hash     uint32 `json:"hash"`
		Revision int64  `json:"revision"`
		TotalKey int64  `json:"totalKey"`
		Version  string `json:"version"`
	}
	must(tb, json.Unmarshal(out, &s))
	return database.Result{Revision: s.Revision, TotalKeys: s.TotalKey, Hash: s.Hash, StorageVersion: s.Version}, nil
}

func etcdutl(tb testing.TB) string { return testenv.Tool(tb, "servers", "go.etcd.io/etcd/etcdutl/v3") }

// checkAgainstEtcdutl inspects a snapshot, compares with etcdutl, and returns what both say.
func checkAgainstEtcdutl(t *testing.T, path string) database.Result {
	t.Helper()
	want, err := status(t, path)
	must(t, err)
	got, err := database.File(t.Context(), path, database.Options{})
	must(t, err)
	want.OldestRevision = got.OldestRevision // etcdutl does not say it
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v, as etcdutl says", got, want)
	}
	return got
}

func TestFileSaysOfAnyLayoutWhatEtcdutlSays(t *testing.T) {
	for name, d := range map[string]layout{
		"no records":            {},
		"one record":            {records: 1, keys: 1, valueSize: 10, version: "3.7.0"},
		"small values":          {records: 20_000, keys: 4_000, valueSize: 200, deletes: 0.3, version: "3.6.0"},
		"values of many pages":  {records: 150, keys: 120, valueSize: 200_000, version: "3.7.0"},
		"free pages, no list":   {records: 12_000, keys: 1_500, valueSize: 900, compact: true, bolt: bolt.Options{NoFreelistSync: true}},
		"free pages and a list": {records: 12_000, keys: 1_500, valueSize: 900, compact: true, version: "3.7.0"},
		"small pages":           {records: 12_000, keys: 1_500, valueSize: 300, compact: true, bolt: bolt.Options{PageSize: 1 << 10}},
		"large pages":           {records: 12_000, keys: 1_500, valueSize: 300, compact: true, bolt: bolt.Options{PageSize: 64 << 10}},
	} {
		t.Run(name, func(t *testing.T) {
			got := checkAgainstEtcdutl(t, d.write(t))
			if d.records > 0 && (got.Revision == 0 || got.TotalKeys == 0 || got.Hash == 0) || got.StorageVersion != d.version {
				t.Errorf("got %+v, which cannot be", got)
			}
		})
	}
}

func TestFileSaysOfEtcdsSnapshotsWhatEtcdutlSays(t *testing.T) {
	e := startEtcd(t)
	t.Run("nothing put yet", func(t *testing.T) {
		checkAgainstEtcdutl(t, e.snapshot(t))
	})
	t.Run("puts, deletes, transactions, leases", func(t *testing.T) {
		e.fill(t)
		got := checkAgainstEtcdutl(t, e.snapshot(t))
		if n := e.count(t); got.TotalKeys != n {
			t.Errorf("%d keys are live, etcd has %d", got.TotalKeys, n)
		}
		if got.StorageVersion != "3.7.0" {
			t.Errorf("the storage version is %q", got.StorageVersion)
		}
	})
	t.Run("compacted", func(t *testing.T) {
		e.compact(t)
		checkAgainstEtcdutl(t, e.snapshot(t))
	})
	t.Run("defragmented", func(t *testing.T) {
		e.defragment(t)
		checkAgainstEtcdutl(t, e.snapshot(t))
	})
	t.Run("restored with a bumped revision", func(t *testing.T) {
		before := e.snapshot(t)
		was := checkAgainstEtcdutl(t, before)
		dir := filepath.Join(t.TempDir(), "restored")
		cmd := exec.CommandContext(t.Context(), etcdutl(t), "snapshot", "restore", before,
			"--bump-revision", "1000000", "--mark-compacted", "--data-dir", dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("restore: %v\n%s", err, out)
		}
		got := checkAgainstEtcdutl(t, filepath.Join(dir, "member", "snap", "db"))
		if got.Revision != was.Revision+1_000_000 {
			t.Errorf("the revision is %d, want a million more than %d", got.Revision, was.Revision)
		}
	})
}

func TestFileLeavesTheFileAsItWas(t *testing.T) {
	path := layout{records: 20_000, keys: 500, valueSize: 100, compact: true}.write(t)
	before, info := contents(t, path)
	for range 2 {
		_, err := database.File(t.Context(), path, database.Options{TempDir: t.TempDir()})
		must(t, err)
	}
	after, infoAfter := contents(t, path)
	if before != after || !info.ModTime().Equal(infoAfter.ModTime()) {
		t.Error("the file was changed")
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("the directory holds %v (%v), want the file alone", left, err)
	}
}

func contents(t *testing.T, path string) (string, os.FileInfo) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	return string(b), info
}
