package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
)

// sizes are around those at which uploads to S3 change: nothing, one request, parts, the last part full or not.
var sizes = []int{0, 1, 5*mib + 1, 8*mib - 1, 8 * mib, 8*mib + 1, 16 * mib, 17 * mib}

func testRoundTrip(t *testing.T, s Subject) {
	for i, n := range sizes {
		b := content(uint64(i), n)
		s.put(t, "default/x.db", b)
		s.holds(t, "default/x.db", b)
	}
	s.listed(t, "default/", "default/x.db")
	s.nothingLeft(t)
}

func testKeys(t *testing.T, s Subject) {
	keys := []string{
		"default/ blank.db", "default/a#b?c&d.db", "default/a%20b+c.db", "default/a.db.tmp.db", "default/nöde=1.db",
		"default/~'(!)*.db",
	}
	for i, key := range keys {
		s.put(t, key, content(uint64(i), 10))
	}
	for i, key := range keys {
		s.holds(t, key, content(uint64(i), 10))
	}
	slices.Sort(keys)
	s.listed(t, "default/", keys...)
}

// testTaken puts objects and looks at the bytes that the backend says it has taken: never more than was handed over,
// and at the end all of it.
func testTaken(t *testing.T, s Subject) {
	for i, n := range sizes {
		src := &counted{r: bytes.NewReader(content(uint64(i), n))}
		var mu sync.Mutex // several parts may be on their way
		var most int64
		opts := putOptions(n)
		opts.Taken = func(bytes int64) {
			mu.Lock()
			defer mu.Unlock()
			if most = max(most, bytes); bytes > src.n.Load() || bytes < 0 {
				t.Errorf("of %d bytes: %d were taken, and %d handed over", n, bytes, src.n.Load())
			}
		}
		if err := s.Backend.Put(t.Context(), "default/x.db", src, opts); err != nil {
			t.Fatal(err)
		}
		if most != int64(n) {
			t.Errorf("%d bytes were put, and %d taken", n, most)
		}
	}
}

// counted counts the bytes that are read.
type counted struct {
	r io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func testReplace(t *testing.T, s Subject) {
	for _, n := range []int{10, 17 * mib} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			before, after := content(1, n), content(2, n+1)
			s.put(t, "default/x.db", before)
			r := io.MultiReader(bytes.NewReader(after), &script{then: func() (int, error) {
				s.holds(t, "default/x.db", before) // all but the end was handed over
				return 0, io.EOF
			}})
			if err := s.Backend.Put(t.Context(), "default/x.db", r, putOptions(len(after))); err != nil {
				t.Fatal(err)
			}
			s.holds(t, "default/x.db", after)
		})
	}
}

func testBrokenReader(t *testing.T, s Subject) {
	errBroken := errors.New("the reader broke off")
	for _, test := range []struct {
		err   error
		after int
	}{
		{errBroken, 0}, {errBroken, 3 * mib}, {errBroken, 8 * mib}, {errBroken, 17 * mib},
		{fmt.Errorf("read: %w", io.EOF), 3 * mib}, {io.ErrUnexpectedEOF, 3 * mib}, {context.Canceled, 3 * mib},
	} {
		t.Run(fmt.Sprintf("%v after %d", test.err, test.after), func(t *testing.T) {
			r := &script{left: test.after, then: func() (int, error) { return 0, test.err }}
			err := s.Backend.Put(t.Context(), "default/x.db", r, putOptions(test.after))
			if !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			s.absent(t, "default/x.db")
		})
	}
}

func testCancelled(t *testing.T, s Subject) {
	for _, n := range []int{0, 3 * mib, 17 * mib} {
		for name, then := range map[string]func(context.Context) (int, error){
			"while it waits":     waiting,
			"while it is read":   func(context.Context) (int, error) { return 1, nil },
			"at its very end":    func(context.Context) (int, error) { return 0, io.EOF },
			"before it is begun": nil,
		} {
			t.Run(fmt.Sprintf("%s after %d", name, n), func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r := &script{left: n, then: func() (int, error) {
					cancel()
					return then(ctx)
				}}
				if then == nil {
					cancel()
					r.then = func() (int, error) { return 0, io.EOF }
				}
				err := s.Backend.Put(ctx, "default/x.db", r, putOptions(n))
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want context.Canceled", err)
				}
				if e, ok := errors.AsType[*snapshot.Error](err); ok && e.Reason != snapshot.ReasonCancelled {
					t.Errorf("reason is %s", e.Reason)
				}
				s.absent(t, "default/x.db")
			})
		}
	}
}

func testFailedReplace(t *testing.T, s Subject) {
	before, errBroken := content(1, 1000), errors.New("the reader broke off")
	s.put(t, "default/x.db", before)
	for _, n := range []int{0, 10, 17 * mib} {
		r := &script{left: n, then: func() (int, error) { return 0, errBroken }}
		if err := s.Backend.Put(t.Context(), "default/x.db", r, putOptions(n)); !errors.Is(err, errBroken) {
			t.Errorf("got %v, want %v", err, errBroken)
		}
		s.holds(t, "default/x.db", before)
	}
	s.nothingLeft(t)
}

func testConcurrentPuts(t *testing.T, s Subject) {
	var writers sync.WaitGroup
	for i := range 6 {
		writers.Go(func() {
			b := content(uint64(i), mib+i)
			if err := s.Backend.Put(t.Context(), "default/x.db", bytes.NewReader(b), putOptions(len(b))); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	o, err := s.Backend.Stat(t.Context(), "default/x.db")
	if err != nil {
		t.Fatal(err)
	}
	i := o.Size - mib
	if i < 0 || i >= 6 {
		t.Fatalf("%d bytes that nobody put", o.Size)
	}
	s.holds(t, "default/x.db", content(uint64(i), int(o.Size)))
	s.listed(t, "default/", "default/x.db")
	s.nothingLeft(t)
}

func testIfAbsent(t *testing.T, s Subject) {
	opts := putOptions(0)
	opts.IfAbsent = true
	for _, n := range []int{10, 17 * mib} {
		key := fmt.Sprintf("default/%d.db", n)
		first := content(1, n)
		if err := s.Backend.Put(t.Context(), key, bytes.NewReader(first), opts); err != nil {
			t.Fatal(err)
		}
		err := s.Backend.Put(t.Context(), key, bytes.NewReader(content(2, n)), opts)
		if !errors.Is(err, snapshot.ErrExists) {
			t.Errorf("got %v, want ErrExists", err)
		}
		s.explained(t, err, snapshot.ReasonObjectExists)
		s.holds(t, key, first)
	}
	s.nothingLeft(t)
}

func testDurable(t *testing.T, s Subject) {
	if s.Steps == nil {
		t.Skip("it does not show its steps")
	}
	const size = 3 * mib
	for i, key := range []string{"default/x.db", "default/x.db", "x.db"} { // new directory, replaced, the root
		known := i == 1
		s.Steps()
		s.put(t, key, content(1, size))
		steps := s.Steps()
		file := slices.IndexFunc(steps, func(st Step) bool { return !st.Directory })
		if file < 0 || steps[file].Size != size || steps[file].Visible != known {
			t.Errorf("%s: the whole file was not synced before it was renamed: %+v", key, steps)
		}
		if i == 0 && !steps[0].Directory {
			t.Errorf("%s: the new directory was not synced in the one above it: %+v", key, steps)
		}
		if last := steps[len(steps)-1]; !last.Directory || !last.Visible {
			t.Errorf("%s: the directory was not synced after the rename: %+v", key, steps)
		}
	}
	if err := s.Backend.Delete(t.Context(), "x.db"); err != nil {
		t.Fatal(err)
	}
	if steps := s.Steps(); len(steps) != 1 || !steps[0].Directory || steps[0].Visible {
		t.Errorf("delete: the directory was not synced after the removal: %+v", steps)
	}
}
