package feed_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/snapshotd/snapshotd/server/feed"
	"github.com/snapshotd/snapshotd/snapshot"
)

// catalog is a catalog in memory, with one event for each revision.
type catalog struct {
	mu        sync.Mutex
	revision  int64
	compacted int64 // events up to it are gone
	history   string
	changed   chan struct{}
	watches   int // under way
	most      int // watches at a time
	err       error
}

func newCatalog(revision int64) *catalog {
	return &catalog{revision: revision, history: "h", changed: make(chan struct{})}
}

// put makes so many changes.
func (c *catalog) put(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revision += n
	close(c.changed)
	c.changed = make(chan struct{})
}

// fail ends all watches, now and later.
func (c *catalog) fail(err error) {
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	c.put(0)
}

func (c *catalog) counts() (watches, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watches, c.most
}

func name(revision int64) string { return fmt.Sprint("snapshot-", revision) }

// Follow is a source.
func (c *catalog) Follow(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
	return func(yield func(snapshot.Moment, error) bool) {
		c.mu.Lock()
		c.watches++
		c.most = max(c.most, c.watches)
		at, history := after.Revision, c.history
		if at == 0 {
			at = c.revision
		}
		wrong := after.Revision > 0 && (after.History != history || after.Revision < c.compacted ||
			after.Revision > c.revision)
		c.mu.Unlock()
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.watches--
		}()
		if wrong {
			yield(snapshot.Moment{}, snapshot.ReasonWatchExpired.New("it is gone"))
			return
		}
		if !yield(snapshot.Moment{Position: snapshot.Position{Revision: at, History: history}}, nil) {
			return
		}
		for {
			c.mu.Lock()
			now, changed, err := c.revision, c.changed, c.err
			c.mu.Unlock()
			if err != nil {
				yield(snapshot.Moment{}, err)
				return
			}
			for ; at < now; at++ {
				m := snapshot.Moment{Position: snapshot.Position{Revision: at + 1, History: history}}
				m.Events = []snapshot.Event{{Name: name(at + 1)}}
				if !yield(m, nil) {
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(snapshot.Moment{}, ctx.Err())
				return
			}
		}
	}
}

// watcher follows a feed until it is stopped, and keeps all events.
type watcher struct {
	mu     sync.Mutex
	told   []snapshot.Moment
	err    error
	cancel context.CancelFunc
	block  chan struct{} // not nil: it takes one moment, and waits for the channel
	done   sync.WaitGroup
}

func watch(t *testing.T, f *feed.Feed, after snapshot.Position, block chan struct{}) *watcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{cancel: cancel, block: block}
	w.done.Go(func() {
		for m, err := range f.Follow(ctx, after) {
			w.mu.Lock()
			w.told = append(w.told, m)
			w.err = err
			w.mu.Unlock()
			if w.block != nil && len(m.Events) > 0 {
				<-w.block
			}
		}
	})
	return w
}

func (w *watcher) stop() {
	w.cancel()
	w.done.Wait()
}

// check checks that a watcher was told where it is first, and then all events from one revision to another, each once.
func (w *watcher) check(t *testing.T, at, last int64) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.told) == 0 || w.told[0].Revision != at || len(w.told[0].Events) != 0 {
		t.Fatalf("the first moment is not that of revision %d: %v", at, w.told)
	}
	next := at + 1
	for _, m := range w.told[1:] {
		for _, ev := range m.Events {
			if ev.Name != name(next) || m.Revision != next {
				t.Fatalf("%s came where %s was to come", ev.Name, name(next))
			}
			next++
		}
	}
	if next-1 != last {
		t.Errorf("it was told up to %d, and not %d; the error is %v", next-1, last, w.err)
	}
}

func at(revision int64) snapshot.Position {
	return snapshot.Position{Revision: revision, History: "h"}
}

func TestTheCatalogIsWatchedOnceHoweverManyWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog(100)
		f := feed.New(c.Follow)
		var all []*watcher
		for range 5000 {
			all = append(all, watch(t, f, snapshot.Position{}, nil))
		}
		synctest.Wait()
		c.put(20)
		synctest.Wait()
		for _, w := range all {
			w.check(t, 100, 120)
		}
		// Those that come back go on where they were, and cost nothing either.
		var back []*watcher
		for i := range int64(1000) {
			back = append(back, watch(t, f, at(100+i%21), nil))
		}
		synctest.Wait()
		c.put(1)
		synctest.Wait()
		for i, w := range back {
			w.check(t, 100+int64(i)%21, 121)
		}
		if now, most := c.counts(); now != 1 || most != 1 {
			t.Errorf("there are %d watches of the catalog, and were %d", now, most)
		}
		for _, w := range append(all, back...) {
			w.stop()
		}
		if now, _ := c.counts(); now != 0 {
			t.Errorf("nobody watches, and %d watches of the catalog are left", now)
		}
	})
}

func TestASlowWatcherMissesNothingAndHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog(10)
		f := feed.New(c.Follow)
		block := make(chan struct{})
		slow, fast := watch(t, f, snapshot.Position{}, block), watch(t, f, snapshot.Position{}, nil)
		synctest.Wait()
		c.put(5000) // far more than are remembered
		synctest.Wait()
		fast.check(t, 10, 5010)
		close(block)
		synctest.Wait()
		slow.check(t, 10, 5010)
		c.put(1)
		synctest.Wait()
		slow.check(t, 10, 5011)
		if now, _ := c.counts(); now != 1 {
			t.Errorf("there are %d watches of the catalog when all have caught up", now)
		}
		slow.stop()
		fast.stop()
	})
}

func TestAWatcherThatComesBackLateCatchesUpOnItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog(1000)
		f := feed.New(c.Follow)
		live := watch(t, f, snapshot.Position{}, nil)
		synctest.Wait()
		var late []*watcher
		for range 50 {
			late = append(late, watch(t, f, at(500), nil))
		}
		synctest.Wait()
		c.put(3)
		synctest.Wait()
		for _, w := range late {
			w.check(t, 500, 1003)
		}
		live.check(t, 1000, 1003)
		if now, most := c.counts(); now != 1 || most > 9 {
			t.Errorf("there are %d watches of the catalog, and were %d", now, most)
		}
		for _, w := range append(late, live) {
			w.stop()
		}
	})
}

// A replica can know less of the catalog's position than the one that a watcher comes from.
func TestAWatcherThatIsAheadOfTheReplicaIsToldNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog(10)
		f := feed.New(func(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
			return c.Follow(ctx, after)
		})
		live := watch(t, f, snapshot.Position{}, nil)
		synctest.Wait()
		c.mu.Lock()
		c.revision = 50 // of other keys: no watcher is told
		c.mu.Unlock()
		ahead := watch(t, f, at(50), nil)
		synctest.Wait()
		c.put(2)
		synctest.Wait()
		ahead.check(t, 50, 52)
		live.stop()
		ahead.stop()
	})
}

func TestAWrongPositionIsTheErrorOfItsWatcherAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog(1000)
		c.compacted = 900
		f := feed.New(c.Follow)
		for _, first := range []bool{true, false} { // the first one of all decides where the following begins
			var good *watcher
			if !first {
				good = watch(t, f, snapshot.Position{}, nil)
				synctest.Wait()
			}
			for _, wrong := range []snapshot.Position{at(5), at(9999), {Revision: 950, History: "another"}} {
				w := watch(t, f, wrong, nil)
				if first {
					good = watch(t, f, snapshot.Position{}, nil)
				}
				w.done.Wait()
				if snapshot.ReasonOf(w.err) != snapshot.ReasonWatchExpired {
					t.Errorf("%v ends with %v", wrong, w.err)
				}
				synctest.Wait()
				good.check(t, 1000, 1000)
				if first {
					good.stop()
				}
			}
			good.stop()
		}
	})
}

func TestTheErrorOfTheCatalogReachesEveryWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog(10)
		f := feed.New(c.Follow)
		a, b := watch(t, f, snapshot.Position{}, nil), watch(t, f, at(10), nil)
		synctest.Wait()
		broken := errors.New("restored")
		c.fail(broken)
		a.done.Wait()
		b.done.Wait()
		if !errors.Is(a.err, broken) || !errors.Is(b.err, broken) {
			t.Errorf("the errors are %v and %v", a.err, b.err)
		}
		c.mu.Lock()
		c.err = nil
		c.mu.Unlock()
		again := watch(t, f, snapshot.Position{}, nil)
		synctest.Wait()
		c.put(1)
		synctest.Wait()
		again.check(t, 10, 11)
		again.stop()
	})
}

// A watcher can share a following that began where another one wanted it, and ends with that one's error.
func TestAGoodPositionOutlivesAWrongOneThatItSharesTheWatchWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog(1000)
		c.compacted = 900
		answers := make(chan struct{})
		f := feed.New(func(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Moment, error] {
			if after != at(5) {
				return c.Follow(ctx, after)
			}
			return func(yield func(snapshot.Moment, error) bool) {
				<-answers
				_ = yield(snapshot.Moment{Position: after}, nil) &&
					yield(snapshot.Moment{}, snapshot.ReasonWatchExpired.New("what comes next is gone"))
			}
		})
		wrong := watch(t, f, at(5), nil)
		synctest.Wait()
		good, wrongToo := watch(t, f, at(950), nil), watch(t, f, at(6), nil)
		synctest.Wait()
		close(answers)
		wrong.done.Wait()
		wrongToo.done.Wait()
		for _, w := range []*watcher{wrong, wrongToo} {
			if snapshot.ReasonOf(w.err) != snapshot.ReasonWatchExpired {
				t.Errorf("a wrong position ends with %v", w.err)
			}
		}
		synctest.Wait()
		good.check(t, 950, 1000)
		good.stop()
	})
}

// Etcd can refuse the service for good.
func TestACatalogThatAlwaysFailsIsAskedOnceForEachTry(t *testing.T) {
	for _, broken := range []error{errors.New("permission denied"), snapshot.ReasonWatchExpired.New("always")} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			f := feed.New(func(ctx context.Context, _ snapshot.Position) iter.Seq2[snapshot.Moment, error] {
				return func(yield func(snapshot.Moment, error) bool) {
					if asked++; asked > 10 {
						<-ctx.Done() // the test is to end, too
					}
					yield(snapshot.Moment{}, broken)
				}
			})
			for i := range 3 {
				w := watch(t, f, snapshot.Position{}, nil)
				synctest.Wait()
				w.stop()
				if !errors.Is(w.err, broken) {
					t.Fatalf("%v reaches the watcher as %v", broken, w.err)
				}
				if asked != i+1 {
					t.Errorf("%v: the catalog was asked %d times for %d watchers", broken, asked, i+1)
				}
			}
		})
	}
}
