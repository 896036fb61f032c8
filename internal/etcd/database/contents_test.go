package database_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

func inspect(t *testing.T, data []byte) (database.Result, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	must(t, os.WriteFile(path, data, 0o600))
	return database.File(t.Context(), path, database.Options{})
}

// An etcd, or etcdutl, would end the process at these entries.
func TestEntriesThatNoEtcdMakesAreUnreadable(t *testing.T) {
	whole := testenv.Stored(t, 0).Data
	for _, f := range testenv.Forgeries() {
		_, err := inspect(t, testenv.Forge(t, whole, f.Bucket, f.Key, f.Value))
		if !errors.Is(err, database.ErrUnreadable) || !strings.Contains(err.Error(), f.Says) {
			t.Errorf("%s: %v, want %q", f.Name, err, f.Says)
		}
	}
}

func TestAlarmsInADatabaseAreFound(t *testing.T) {
	data := testenv.Stored(t, 0).Data
	want := []string{"NOSPACE 8e9e05c52164694d", "CORRUPT 0000000000000001"}
	for i := range want {
		data = testenv.Alarmed(t, data, want[i])
	}
	slices.Sort(want)
	res, err := inspect(t, data)
	slices.Sort(res.Alarms)
	if err != nil || !slices.Equal(res.Alarms, want) {
		t.Errorf("found %v, %v, want %v", res.Alarms, err, want)
	}
}
