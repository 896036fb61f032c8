package catalogtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
)

func testLock(t *testing.T, c snapshot.Catalog) {
	const takers = 50
	locks := make([]snapshot.Lock, takers)
	errs := make([]error, takers)
	var wg sync.WaitGroup
	for i := range takers {
		wg.Go(func() { locks[i], errs[i] = c.Lock(t.Context(), fmt.Sprint("taker ", i)) })
	}
	wg.Wait()
	winner := slices.IndexFunc(errs, func(err error) bool { return err == nil })
	if winner < 0 {
		t.Fatal("nobody got the lock")
	}
	for i, err := range errs {
		if i != winner && !errors.Is(err, snapshot.ErrLocked) {
			t.Errorf("taker %d beside %d: %v, want ErrLocked", i, winner, err)
		}
	}
	owner := func(want string) {
		t.Helper()
		if got, err := c.LockOwner(t.Context()); err != nil || got != want {
			t.Errorf("the lock's owner is %q, %v, want %q", got, err, want)
		}
	}
	owner(fmt.Sprint("taker ", winner))
	select {
	case <-locks[winner].Lost():
		t.Error("the lock is lost at once")
	default:
	}
	locks[winner].Unlock(t.Context())
	locks[winner].Unlock(t.Context()) // once more does no harm
	owner("")
	again, err := c.Lock(t.Context(), "again")
	if err != nil {
		t.Fatal(err)
	}
	locks[winner].Unlock(t.Context()) // nor does it take the next one's lock away
	owner("again")
	r := Record("begun", 0)
	r.State, r.Owner = snapshot.StateSaving, "again"
	if err := c.Begin(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	again.Unlock(t.Context())
	owner("")
	r = Record("late", 0)
	r.RequestID, r.Owner = "", "again"
	wantErr(t, c.Begin(t.Context(), r, nil), snapshot.ErrLocked)
}
