package restore_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/restore"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

func inspect(t *testing.T, data []byte) (database.Result, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return database.File(t.Context(), path, database.Options{})
}

// newest are the options of a restore of the newest snapshot on a backend.
func newest(t *testing.T, b repository.Backend) restore.Options {
	t.Helper()
	member := restore.Member{Name: "a", ClusterToken: "token", PeerURLs: []string{"http://localhost:2380"}}
	member.InitialCluster = member.Alone()
	return restore.Options{
		Repositories: []*repository.Repository{repository.New(repository.Config{Backend: b, Prefix: "default/"})},
		Choice:       restore.Choice{Latest: true, Now: now}, DataDir: filepath.Join(t.TempDir(), "data"), Member: member,
	}
}

// Whoever can write to a bucket can put any database there, with a manifest that fits. It must not end the process.
func TestForgedDatabaseIsAnErrorOfTheRestore(t *testing.T) {
	t.Parallel()
	whole := testenv.Stored(t, 0).Data
	for _, f := range testenv.Forgeries() {
		b := memory.New("one", snapshot.BackendLocal)
		storeData(t, b, time.Hour, testenv.Forge(t, whole, f.Bucket, f.Key, f.Value), nil)
		o := newest(t, b)
		for _, o.SkipHashCheck = range []bool{false, true} {
			_, err := restore.Run(t.Context(), o)
			if snapshot.ReasonOf(err) != snapshot.ReasonSnapshotUnreadable || !strings.Contains(err.Error(), f.Says) {
				t.Errorf("%s: %v, want %q", f.Name, err, f.Says)
			}
		}
		if left, err := os.ReadDir(filepath.Dir(o.DataDir)); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", f.Name, left, err)
		}
	}
}

func TestManifestOfAnotherDatabaseIsAnErrorOfTheRestore(t *testing.T) {
	t.Parallel()
	b := memory.New("one", snapshot.BackendLocal)
	older := store(t, b, 2*time.Hour)
	storeData(t, b, time.Hour, testenv.Stored(t, 1).Data, func(s *snapshot.Snapshot) { s.Revision = 1 << 40 })
	res, err := restore.Run(t.Context(), newest(t, b))
	if err != nil || res.Snapshot.Name != older || len(res.Skipped) != 1 || !strings.Contains(res.Skipped[0].Error(), "its manifest says") {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestAlarmsAreToldAndLeftOutOnRequest(t *testing.T) {
	t.Parallel()
	const alarm = "NOSPACE 8e9e05c52164694d"
	b := memory.New("one", snapshot.BackendLocal)
	storeData(t, b, time.Hour, testenv.Alarmed(t, testenv.Stored(t, 0).Data, alarm), func(s *snapshot.Snapshot) {
		s.Alarms = nil // as versions wrote manifests that did not look at them
	})
	for _, disarm := range []bool{false, true} {
		o := newest(t, b)
		o.Disarm = disarm
		res, err := restore.Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(res.Snapshot.Alarms, []string{alarm}) {
			t.Errorf("alarms: %v", res.Snapshot.Alarms)
		}
		if left := entries(t, filepath.Join(o.DataDir, "member", "snap", "db"), "alarm"); (left == 0) != disarm {
			t.Errorf("disarm %t: %d alarms are in the data directory", disarm, left)
		}
	}
}

// entries returns how many entries a bucket has.
func entries(t *testing.T, file, bucket string) (n int) {
	t.Helper()
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	err = db.View(func(tx *bolt.Tx) error {
		n = tx.Bucket([]byte(bucket)).Stats().KeyN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
