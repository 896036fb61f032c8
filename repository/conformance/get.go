package conformance

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

func testRanges(t *testing.T, s Subject) {
	for _, size := range []int64{0, 1, 1000, 8 * mib, 17*mib + 5} {
		b := content(uint64(size), int(size))
		s.put(t, "default/x.db", b)
		for _, offset := range []int64{0, 8*mib - 1, 8 * mib, size - 1, size, 1 << 40} {
			if offset < 0 {
				continue
			}
			for _, length := range []int64{0, 10, 8*mib + 1, 1<<63 - 1} {
				want := b[min(offset, size):]
				if length > 0 {
					want = want[:min(int64(len(want)), length)]
				}
				s.holdsRange(t, "default/x.db", repository.Range{Offset: offset, Length: length}, want)
			}
		}
	}
	for _, x := range []repository.Range{{Offset: -1, Length: 1}, {Length: -1}} {
		if r, err := s.Backend.Get(t.Context(), "default/x.db", x); err == nil {
			t.Errorf("%+v was read", x)
			_ = r.Close()
		} else {
			s.explained(t, err, snapshot.ReasonInvalidArgument)
		}
	}
}

// testReplacedWhileRead opens an object, replaces it, and reads on: a mixture of both would pass for a copy.
func testReplacedWhileRead(t *testing.T, s Subject) {
	before := content(1, 26*mib)
	s.put(t, "default/x.db", before)
	r, err := s.Backend.Get(t.Context(), "default/x.db", repository.Range{})
	if err != nil {
		t.Fatal(err)
	}
	m := &matcher{want: before}
	if _, err := io.CopyN(m, r, mib); err != nil {
		t.Fatal(err)
	}
	s.put(t, "default/x.db", content(2, 26*mib))
	_, err = io.Copy(m, r)
	if m.differs || err == nil && m.n != len(before) {
		t.Errorf("after %d bytes and %v the reader has got bytes of both objects, or not all of one", m.n, err)
	}
	_ = r.Close() // an error of the reading may be repeated
	s.holds(t, "default/x.db", content(2, 26*mib))
}

func testGetCancelled(t *testing.T, s Subject) {
	s.put(t, "default/x.db", content(1, 26*mib))
	for name, get := range map[string]func(context.Context) (io.ReadCloser, error){
		"all": func(ctx context.Context) (io.ReadCloser, error) {
			return s.Backend.Get(ctx, "default/x.db", repository.Range{})
		},
		"a range": func(ctx context.Context) (io.ReadCloser, error) {
			return s.Backend.Get(ctx, "default/x.db", repository.Range{Offset: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, err := get(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, r, mib); err != nil {
				t.Fatal(err)
			}
			cancel()
			_, err = io.Copy(io.Discard, r)
			if !errors.Is(err, context.Canceled) || snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
				t.Errorf("got %v (%s), want context.Canceled", err, snapshot.ReasonOf(err))
			}
			if cerr := r.Close(); cerr != nil {
				t.Error(cerr)
			}
			if r, err := get(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("a get whose context has ended: %v", err)
				if err == nil {
					_ = r.Close()
				}
			}
		})
	}
	t.Run("closed half-way", func(t *testing.T) {
		r, err := s.Backend.Get(t.Context(), "default/x.db", repository.Range{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, mib); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		s.holds(t, "default/x.db", content(1, 26*mib))
	})
}
