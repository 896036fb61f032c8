package catalogtest

import (
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

func testRequestID(t *testing.T, c snapshot.Catalog) {
	_, err := c.ByRequestID(t.Context(), "id")
	wantErr(t, err, snapshot.ErrNotFound)
	first, second := Record("first", time.Hour), Record("second", 0)
	first.RequestID, second.RequestID = "id/..\x01 ü", "id/..\x01 ü"
	first.State, second.State = snapshot.StateSaving, snapshot.StateSaving
	lead := func(want *snapshot.Record) {
		t.Helper()
		got, err := c.ByRequestID(t.Context(), first.RequestID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
	first.Owner, second.Owner = "", ""
	mustBegin := func(r, old *snapshot.Record) {
		t.Helper()
		if err := c.Begin(t.Context(), r, old); err != nil {
			t.Fatal(err)
		}
	}
	mustBegin(first, nil)
	lead(first)
	wantErr(t, c.Begin(t.Context(), second, nil), snapshot.ErrConflict) // it has been begun
	old := first.Clone()
	if err := c.Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Begin(t.Context(), second, old), snapshot.ErrConflict) // it has changed
	lead(first)
	old = first.Clone()
	old.SupersededBy = "second"
	mustBegin(second, old)
	lead(second)
	wantErr(t, c.Update(t.Context(), first), snapshot.ErrConflict) // who is still at work on it finds out
	first = mustGet(t, c, "first")
	if first.SupersededBy != "second" {
		t.Errorf("superseded by %q", first.SupersededBy)
	}
	namesake := Record("second", 0)
	namesake.RequestID, namesake.Owner = "", ""
	wantErr(t, c.Begin(t.Context(), namesake, nil), snapshot.ErrExists)
	first.Error = "changed" // the older one is changed, and the newer one still stands for the request
	if err := c.Update(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	lead(second)
	if err := c.Remove(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	lead(second)
	found := Record("found", 2*time.Hour) // not a save that begins: one that reconcile found on a backend
	found.RequestID = second.RequestID
	mustCreate(t, c, found)
	lead(second)
	if err := c.Remove(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	second.State = snapshot.StatePartial
	mustCreate(t, c, second)
	lead(second)
	second.RequestID = ""
	if err := c.Update(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	_, err = c.ByRequestID(t.Context(), first.RequestID)
	wantErr(t, err, snapshot.ErrNotFound)
}
