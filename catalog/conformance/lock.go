package conformance

import (
	"errors"
	"fmt"
	"reflect"
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

// testTold checks that only the holder of the lock tells how far the save is, and that what it has told goes with the
// lock.
func testTold(t *testing.T, c Catalog) {
	told := func(want *snapshot.Progress) {
		t.Helper()
		if got, err := c.Saves.Told(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("told was %+v, %v, want %+v", got, err, want)
		}
	}
	told(nil)
	lock, err := c.Saves.Lock(t.Context(), "me")
	if err != nil {
		t.Fatal(err)
	}
	told(nil)
	first := snapshot.Progress{
		Name: "a", Elapsed: 5 * time.Second, Read: 7, Written: map[string]int64{"local": 3, "s3": 0},
	}
	second := snapshot.Progress{
		Name: "a", Elapsed: 10 * time.Second, Read: 1 << 40, Total: 1 << 41, Written: map[string]int64{"local": 4},
	}
	for _, p := range []snapshot.Progress{first, second} {
		if err := lock.Tell(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		told(&p)
	}
	lock.Unlock(t.Context())
	told(nil)
	wantErr(t, lock.Tell(t.Context(), first), snapshot.ErrLocked)
	told(nil)
	late, err := c.Saves.Lock(t.Context(), "late")
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, lock.Tell(t.Context(), first), snapshot.ErrLocked) // nor is it told of another one's save
	told(nil)
	if err := late.Tell(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	c.ExpireLocks()
	told(nil)
	late.Unlock(t.Context())
}
