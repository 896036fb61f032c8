package database_test

import (
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
)

// A database that somebody made up may call its version anything; no record could hold it.
func TestAStorageVersionThatIsNoneIsLeftOut(t *testing.T) {
	path := layout{records: 10, keys: 10, valueSize: 10, version: "3.7.0-" + strings.Repeat("x", 2<<20)}.write(t)
	res, err := database.File(t.Context(), path, database.Options{})
	if err != nil || res.StorageVersion != "" || res.TotalKeys == 0 {
		t.Errorf("a version of %d bytes, %d keys, %v", len(res.StorageVersion), res.TotalKeys, err)
	}
}
