package conformance

import (
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
)

func testStore(t *testing.T, c Catalog) {
	ctx := t.Context()
	_, err := c.Stores.Store(ctx, "local")
	wantErr(t, err, snapshot.ErrNotFound)
	wantErr(t, c.Stores.PutStore(ctx, "local", snapshot.Store{ID: "x", Version: 7}), snapshot.ErrConflict)
	if err := c.Stores.PutStore(ctx, "local", snapshot.Store{ID: "x"}); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Stores.PutStore(ctx, "local", snapshot.Store{ID: "y"}), snapshot.ErrConflict)
	s, err := c.Stores.Store(ctx, "local")
	if err != nil || s.ID != "x" || s.Initialized || s.Version == 0 {
		t.Fatalf("store %+v, %v", s, err)
	}
	old := s
	s.Initialized = true
	if err := c.Stores.PutStore(ctx, "local", s); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Stores.PutStore(ctx, "local", old), snapshot.ErrConflict)
	s, err = c.Stores.Store(ctx, "local")
	if err != nil || s.ID != "x" || !s.Initialized || s.Version == old.Version {
		t.Fatalf("store %+v, %v", s, err)
	}
	_, err = c.Stores.Store(ctx, "s3")
	wantErr(t, err, snapshot.ErrNotFound)
}
