package conformance

import (
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

func testRequestID(t *testing.T, c Catalog) {
	_, err := c.Saves.ByRequestID(t.Context(), "id")
	wantErr(t, err, snapshot.ErrNotFound)
	const id = "id/..\x01 ü"
	first, second := saving("first", time.Hour, id, ""), saving("second", 0, id, "")
	lead := func(want *snapshot.Record) {
		t.Helper()
		got, err := c.Saves.ByRequestID(t.Context(), first.RequestID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
	mustBegin := func(r, old *snapshot.Record) {
		t.Helper()
		if err := c.Saves.Begin(t.Context(), r, old); err != nil {
			t.Fatal(err)
		}
	}
	mustBegin(first, nil)
	lead(first)
	wantErr(t, c.Saves.Begin(t.Context(), second, nil), snapshot.ErrConflict) // it has been begun
	old := first.Copy()
	if err := c.Records.Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Saves.Begin(t.Context(), second, old), snapshot.ErrConflict) // it has changed
	lead(first)
	old = first.SupersedeBy("second")
	mustBegin(second, old)
	lead(second)
	// A replica that is still at work on the first one finds out.
	wantErr(t, c.Records.Update(t.Context(), first), snapshot.ErrConflict)
	first = mustGet(t, c, "first")
	if first.SupersededBy() != "second" {
		t.Errorf("superseded by %q", first.SupersededBy())
	}
	wantErr(t, c.Saves.Begin(t.Context(), saving("second", 0, "", ""), nil), snapshot.ErrExists)
	first.Node = "changed" // the older one is changed, and the newer one still stands for the request
	if err := c.Records.Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	lead(second)
	if err := c.Records.Remove(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	lead(second)
	found := Record("found", 2*time.Hour) // not a save that begins: one that reconcile found on a backend
	found.RequestID = second.RequestID
	mustCreate(t, c, found)
	lead(second)
	if err := c.Records.Remove(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	second.Conclude(time.Second, nil)
	mustCreate(t, c, second)
	lead(second)
	second.RequestID = ""
	if err := c.Records.Update(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	_, err = c.Saves.ByRequestID(t.Context(), first.RequestID)
	wantErr(t, err, snapshot.ErrNotFound)
}
