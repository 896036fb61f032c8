package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

func testNotFound(t *testing.T, s Subject) {
	s.put(t, "default/a.db", content(1, 1))
	for _, key := range []string{"default/b.db", "default/a", "default/a.db.zst", "other/a.db", "default"} {
		if o, err := s.Backend.Stat(t.Context(), key); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("stat %s: got %+v, %v, want ErrNotFound", key, o, err)
		} else {
			s.explained(t, err, snapshot.ReasonObjectNotFound)
		}
		if r, err := s.Backend.Get(t.Context(), key, repository.Range{}); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("get %s: got %v, want ErrNotFound", key, err)
			if err == nil {
				_ = r.Close()
			}
		} else {
			s.explained(t, err, snapshot.ReasonObjectNotFound)
		}
	}
}

func testDelete(t *testing.T, s Subject) {
	s.put(t, "default/a.db", content(1, 10))
	s.put(t, "default/b.db", content(2, 10))
	for range 2 { // the second time it is not there any more
		if err := s.Backend.Delete(t.Context(), "default/a.db"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Backend.Delete(t.Context(), "never/was.db"); err != nil {
		t.Error(err)
	}
	s.listed(t, "default/", "default/b.db")
	s.holds(t, "default/b.db", content(2, 10))
}

func testList(t *testing.T, s Subject) {
	s.listed(t, "")
	s.listed(t, "default/")
	keys := []string{
		"default/a-1.db", "default/a-1.json", "default/a.db", "default/a.json", "default/a0.db",
		"default/nested/b.db", "defaulted/c.db", "root.json",
	}
	for _, key := range slices.Backward(keys) {
		s.put(t, key, content(1, len(key)))
	}
	if s.Plant != nil {
		s.Plant(t, "default/a.db")
		s.Plant(t, "root.json")
	}
	s.listed(t, "", "root.json")
	s.listed(t, "default/", keys[:5]...)
	s.listed(t, "default/nested/", "default/nested/b.db")
	s.listed(t, "def/")
	s.listed(t, "default/a.db/")
	for o, err := range s.Backend.List(t.Context(), "default/") {
		if err != nil {
			t.Fatal(err)
		}
		if o.Size != int64(len(o.Key)) || time.Since(o.ModTime).Abs() > time.Hour {
			t.Errorf("got %+v", o)
		}
	}
}

func testListMany(t *testing.T, s Subject) {
	const n = 1100 // more than a page of S3
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprintf("default/x-%04d.json", i)
	}
	s.stock(t, want)
	if got := s.keys(t, "default/"); !slices.Equal(got, want) {
		t.Errorf("got %d keys, want %d in order", len(got), n)
	}
}

func testListStopped(t *testing.T, s Subject) {
	for i := range 3 {
		s.put(t, fmt.Sprintf("default/%d.db", i), content(1, 1))
	}
	for o, err := range s.Backend.List(t.Context(), "default/") {
		if o.Key != "default/0.db" || err != nil {
			t.Errorf("got %+v, %v", o, err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range s.Backend.List(ctx, "default/") {
		if last != nil {
			t.Error("something follows the error")
		}
		last = err
	}
	if !errors.Is(last, context.Canceled) || snapshot.ReasonOf(last) != snapshot.ReasonCancelled {
		t.Errorf("got %v (%s), want context.Canceled", last, snapshot.ReasonOf(last))
	}
}

func testSweep(t *testing.T, s Subject) {
	if s.Plant == nil || s.Leftovers == nil {
		t.Skip("it leaves nothing")
	}
	later, earlier := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	s.put(t, "default/a.db", content(1, 10))
	for _, key := range []string{
		"default/a.db", "default/b.db.zst", "default/c.json", "default/d.db.zst.age", "default/e.db.age",
		"default/kept.db", "default/foreign.txt", "default/nested/d.db", "root.db",
	} {
		s.Plant(t, key)
	}
	keep := func(key string) bool { return key == "default/kept.db" }
	for _, step := range []struct {
		prefix string
		opts   repository.SweepOptions
		want   int64
		left   int
	}{
		{"never/", repository.SweepOptions{OlderThan: later}, 0, 9},
		{"default/", repository.SweepOptions{OlderThan: earlier}, 0, 9},
		{"default/", repository.SweepOptions{OlderThan: later, Keep: keep, DryRun: true}, 5, 9},
		{"default/", repository.SweepOptions{OlderThan: later, Keep: keep}, 5, 4},
		{"default/", repository.SweepOptions{OlderThan: later, Keep: keep}, 0, 4},
		{"default/", repository.SweepOptions{OlderThan: later}, 1, 3},
		{"", repository.SweepOptions{OlderThan: later}, 1, 2},
	} {
		n, err := s.Backend.Sweep(t.Context(), step.prefix, step.opts)
		if left := s.Leftovers(t); err != nil || n != step.want || len(left) != step.left {
			t.Errorf("sweep %q: got %d, %v, and %q is left; want %d and %d left",
				step.prefix, n, err, left, step.want, step.left)
		}
	}
	s.holds(t, "default/a.db", content(1, 10))
}

func testVanished(t *testing.T, s Subject) {
	if s.Vanish == nil {
		t.Skip("it cannot vanish")
	}
	s.put(t, "default/a.db", content(1, 10))
	s.Vanish(t)
	ctx := t.Context()
	_, statErr := s.Backend.Stat(ctx, "default/a.db")
	_, getErr := s.Backend.Get(ctx, "default/a.db", repository.Range{})
	_, sweepErr := s.Backend.Sweep(ctx, "default/", repository.SweepOptions{OlderThan: time.Now()})
	var listErr error
	for o, err := range s.Backend.List(ctx, "default/") {
		if listErr = err; err == nil {
			t.Errorf("listed %+v", o)
		}
	}
	for op, err := range map[string]error{
		"stat": statErr, "get": getErr, "list": listErr, "sweep": sweepErr,
		"delete": s.Backend.Delete(ctx, "default/a.db"),
		"put":    s.Backend.Put(ctx, "default/b.db", bytes.NewReader([]byte("b")), putOptions(1)),
	} {
		if err == nil || errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("%s: got %v, want an error that is not ErrNotFound", op, err)
		}
		s.explained(t, err, snapshot.ReasonBackendNotFound)
	}
}
