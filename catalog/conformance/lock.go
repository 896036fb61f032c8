package conformance

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

func testLock(t *testing.T, c Catalog) {
	const takers = 50
	locks := make([]cluster.Lock, takers)
	errs := make([]error, takers)
	var wg sync.WaitGroup
	for i := range takers {
		wg.Go(func() { locks[i], errs[i] = c.Saves.Lock(t.Context(), fmt.Sprint("taker ", i)) })
	}
	wg.Wait()
	winner := slices.IndexFunc(errs, func(err error) bool { return err == nil })
	if winner < 0 {
		t.Fatal("no taker got the lock")
	}
	for i, err := range errs {
		if i != winner && !errors.Is(err, snapshot.ErrLocked) {
			t.Errorf("taker %d beside %d: %v, want ErrLocked", i, winner, err)
		}
	}
	owner := func(want string) { t.Helper(); wantOwner(t, c, want) }
	owner(fmt.Sprint("taker ", winner))
	select {
	case <-locks[winner].Lost():
		t.Error("the lock is lost at once")
	default:
	}
	locks[winner].Unlock(t.Context())
	locks[winner].Unlock(t.Context()) // once more does no harm
	owner("")
	again, err := c.Saves.Lock(t.Context(), "again")
	if err != nil {
		t.Fatal(err)
	}
	locks[winner].Unlock(t.Context()) // nor does it take the next one's lock away
	owner("again")
	if err := c.Saves.Begin(t.Context(), saving("begun", 0, "id", "again"), nil); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Saves.Begin(t.Context(), saving("other", 0, "", "other"), nil), snapshot.ErrLocked)
	again.Unlock(t.Context())
	owner("")
	wantErr(t, c.Saves.Begin(t.Context(), saving("late", 0, "", "again"), nil), snapshot.ErrLocked)
}

func wantOwner(t *testing.T, c Catalog, want string) {
	t.Helper()
	if got, err := c.Saves.LockOwner(t.Context()); err != nil || got != want {
		t.Errorf("the lock's owner is %q, %v, want %q", got, err, want)
	}
}

func testLockExpires(t *testing.T, c Catalog) {
	lock, err := c.Saves.Lock(t.Context(), "me")
	if err != nil {
		t.Fatal(err)
	}
	c.ExpireLocks()
	select {
	case <-lock.Lost():
	case <-time.After(time.Minute):
		t.Fatal("the holder does not learn that its lock is lost")
	}
	wantErr(t, c.Saves.Begin(t.Context(), saving("late", 0, "", "me"), nil), snapshot.ErrLocked)
	other, err := c.Saves.Lock(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	lock.Unlock(t.Context())
	wantOwner(t, c, "other")
	other.Unlock(t.Context())
	wantOwner(t, c, "")
}
