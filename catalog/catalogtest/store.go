package catalogtest

import (
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
)

func testStore(t *testing.T, c snapshot.Catalog) {
	ctx := t.Context()
	_, err := c.Store(ctx, "local")
	wantErr(t, err, snapshot.ErrNotFound)
	wantErr(t, c.PutStore(ctx, "local", snapshot.Store{ID: "x", Version: 7}), snapshot.ErrConflict)
	if err := c.PutStore(ctx, "local", snapshot.Store{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.PutStore(ctx, "local", snapshot.Store{ID: "y"}), snapshot.ErrConflict)
	s, err := c.Store(ctx, "local")
	if err != nil || s.ID != "x" || s.Initialized || s.Version == 0 {
		t.Fatalf("store %+v, %v", s, err)
	}
	old := s
	s.Initialized = true
	if err := c.PutStore(ctx, "local", s); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.PutStore(ctx, "local", old), snapshot.ErrConflict)
	s, err = c.Store(ctx, "local")
	if err != nil || s.ID != "x" || !s.Initialized || s.Version == old.Version {
		t.Fatalf("store %+v, %v", s, err)
	}
	_, err = c.Store(ctx, "s3")
	wantErr(t, err, snapshot.ErrNotFound)
}
