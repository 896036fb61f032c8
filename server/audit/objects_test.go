package audit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/server/audit"
)

var errDown = errors.New("the bucket is down")

// bucket keeps objects, or fails.
type bucket struct {
	mu       sync.Mutex
	objects  map[string]string
	attempts int
	down     bool
	held     chan struct{} // closed when it may answer; nil when it answers at once
}

func (b *bucket) Create(ctx context.Context, key string, data []byte) error {
	b.mu.Lock()
	held := b.held
	b.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempts++
	if b.down {
		return errDown
	}
	if _, exists := b.objects[key]; exists {
		return fmt.Errorf("%s is written again", key)
	}
	b.objects[key] = string(data)
	return nil
}

func (b *bucket) set(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

// snapshots returns the names of the snapshots in the records, in the order of the keys, and the number of objects.
func (b *bucket) snapshots(t *testing.T) (names []string, objects int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for key := range b.objects {
		keys = append(keys, key)
		if !strings.HasPrefix(key, "2000-01-01/") || !strings.HasSuffix(key, ".jsonl") || !strings.Contains(key, "-node-1-") {
			t.Errorf("the key is %s", key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		for line := range strings.Lines(b.objects[key]) {
			_, rest, _ := strings.Cut(line, `"snapshot":"`)
			name, _, _ := strings.Cut(rest, `"`)
			names = append(names, name)
		}
	}
	return names, len(keys)
}

func record(i int) *audit.Record { return &audit.Record{Operation: "Delete", Snapshot: fmt.Sprint(i)} }

// stored returns records that are stored in a bucket, and how often they were told that it fails.
func stored(t *testing.T, b *bucket) (o *audit.Objects, failed func() int) {
	t.Helper()
	b.objects = map[string]string{}
	var mu sync.Mutex
	n := 0
	o = audit.NewObjects(audit.ObjectsConfig{Store: b, Node: "node-1", Fail: func(error) {
		mu.Lock()
		defer mu.Unlock()
		n++
	}})
	o.Start(t.Context())
	return o, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// over is a context that has ended.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func want(t *testing.T, b *bucket, from, to, objects int) {
	t.Helper()
	var names []string
	for i := from; i < to; i++ {
		names = append(names, fmt.Sprint(i))
	}
	if got, n := b.snapshots(t); !slices.Equal(got, names) || n != objects {
		t.Errorf("%d objects have the records %v, want %d to %d in %d", n, got, from, to, objects)
	}
}

// TestRecordsThatComeMeanwhileAreOneObject: a burst of calls is no burst of requests.
func TestRecordsThatComeMeanwhileAreOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{held: make(chan struct{})}
		o, failed := stored(t, b)
		add := func(i int) {
			if err := o.Append(record(i)); err != nil {
				t.Error(err)
			}
		}
		add(0)
		synctest.Wait()
		for i := 1; i < 100; i++ {
			add(i)
		}
		close(b.held)
		if err := o.Close(t.Context()); err != nil {
			t.Error(err)
		}
		want(t, b, 0, 100, 2)
		if failed() != 0 {
			t.Error("it failed")
		}
		if err := o.Append(record(100)); err == nil {
			t.Error("a record is taken after the end")
		}
	})
}

// TestRecordsWaitForTheBucket: none is lost while it is down, and none is stored twice.
func TestRecordsWaitForTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{down: true}
		o, failed := stored(t, b)
		for i := range 10 {
			if err := o.Append(record(i)); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		if n := failed(); n < 50 || n > 70 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		b.set(false)
		time.Sleep(10 * time.Second)
		want(t, b, 0, 10, 2) // the first one, which was tried all the time, and the others
		if err := o.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestACallWaitsUntilItsRecordIsStored, and learns at once that it cannot be.
func TestACallWaitsUntilItsRecordIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{}
		o, _ := stored(t, b)
		if err := o.Store(t.Context(), record(0)); err != nil {
			t.Error(err)
		}
		want(t, b, 0, 1, 1)
		b.set(true)
		begun := time.Now()
		for i := 1; i < 3; i++ { // the second one waits beside the first one, which is tried again
			if err := o.Store(t.Context(), record(i)); !errors.Is(err, errDown) {
				t.Errorf("a record that cannot be stored: %v", err)
			}
		}
		if d := time.Since(begun); d > 15*time.Second {
			t.Errorf("that was said after %v", d)
		}
		if err := o.Store(over(), record(3)); !errors.Is(err, context.Canceled) {
			t.Errorf("a call that has ended: %v", err)
		}
		b.set(false)
		if err := o.Store(t.Context(), record(4)); err != nil {
			t.Errorf("when the bucket is back: %v", err)
		}
		want(t, b, 0, 5, 3)
		if err := o.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestRecordsThatWaitTakeBoundedMemory, and those that are lost in the end are told of.
func TestRecordsThatWaitTakeBoundedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bucket{down: true}
		o, failed := stored(t, b)
		long := &audit.Record{Arguments: []byte(`"` + strings.Repeat("x", 8000) + `"`)}
		taken := 0
		for o.Append(long) == nil {
			taken++
		}
		if taken < 500 || taken > 1100 {
			t.Errorf("%d records of 8 KB wait", taken)
		}
		synctest.Wait()
		before := failed()
		err := o.Close(over())
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(taken, " audit records were not stored")) ||
			failed() != before+1 {
			t.Errorf("at the end: %v, and %d failures are told of after %d", err, failed(), before)
		}
		if n := len(b.objects); n != 0 {
			t.Errorf("there are %d objects", n)
		}
	})
}

// TestNothingIsStoredWithoutAStore: there is no such thing then.
func TestNothingIsStoredWithoutAStore(t *testing.T) {
	o := audit.NewObjects(audit.ObjectsConfig{})
	o.Start(t.Context())
	if err := errors.Join(o.Append(record(0)), o.Store(t.Context(), record(1)), o.Close(t.Context())); err != nil {
		t.Error(err)
	}
}
