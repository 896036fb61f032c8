package repository_test

import (
	"slices"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// A writer that is killed while it writes the marker leaves a temporary file at the root of a directory.
func TestLeftoversOfTheMarkerAreSwept(t *testing.T) {
	b := memory.New("local", snapshot.BackendLocal)
	r := repository.New(repository.Config{Backend: b, Cluster: "default", Prefix: "default/"})
	for _, key := range []string{snapshot.MarkerKey, "a.db.zst", "default/a.db.zst", "default/b.db.zst", "other/a.db.zst"} {
		b.Plant(key)
	}
	opts := repository.SweepOptions{OlderThan: time.Now().Add(-time.Hour), Keep: func(key string) bool { return key == "default/b.db.zst" }}
	if n, err := r.Sweep(t.Context(), opts); n != 0 || err != nil {
		t.Errorf("%d young ones are swept (%v)", n, err)
	}
	opts.OlderThan = time.Now().Add(time.Hour)
	if n, err := r.Sweep(t.Context(), opts); n != 2 || err != nil {
		t.Errorf("%d are swept, want 2 (%v)", n, err)
	}
	if left := b.Leftovers(); !slices.Equal(left, []string{"a.db.zst", "default/b.db.zst", "other/a.db.zst"}) {
		t.Errorf("left are %q", left)
	}
}
