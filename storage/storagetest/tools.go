package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
)

const mib = 1 << 20

// content returns n bytes that differ from place to place, and from seed to seed.
func content(seed uint64, n int) []byte {
	b := make([]byte, n+7)
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i < n; i += 8 {
		v := rng.Uint64()
		for j := range 8 {
			if i+j < len(b) {
				b[i+j] = byte(v >> (8 * j))
			}
		}
	}
	return b[:n]
}

func putOptions(size int) snapshot.PutOptions {
	return snapshot.PutOptions{ContentType: "application/octet-stream", SizeHint: int64(size)}
}

// put stores b under key.
func (s Subject) put(t *testing.T, key string, b []byte) {
	t.Helper()
	if err := s.Backend.Put(t.Context(), key, onlyReader{bytes.NewReader(b)}, putOptions(len(b))); err != nil {
		t.Fatal(err)
	}
}

// onlyReader hides what a reader can beside reading.
type onlyReader struct{ io.Reader }

// holds checks that key holds want, whoever is asked.
func (s Subject) holds(t *testing.T, key string, want []byte) {
	t.Helper()
	if got := s.get(t, key); !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes, want %d others", key, len(got), len(want))
	}
	o, err := s.Backend.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if o.Key != key || o.Size != int64(len(want)) || o.ModTime.IsZero() {
		t.Errorf("stat %s: got %+v, want size %d", key, o, len(want))
	}
}

func (s Subject) get(t *testing.T, key string) []byte {
	t.Helper()
	r, err := s.Backend.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// span reads a range.
func (s Subject) span(t *testing.T, key string, offset, length int64) []byte {
	t.Helper()
	r, err := s.Backend.GetRange(t.Context(), key, offset, length)
	if err != nil {
		t.Fatalf("%d bytes from %d on: %v", length, offset, err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatalf("%d bytes from %d on: %v", length, offset, err)
	}
	return b
}

// keys lists.
func (s Subject) keys(t *testing.T, prefix string) []string {
	t.Helper()
	var keys []string
	for o, err := range s.Backend.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// listed checks what a listing shows.
func (s Subject) listed(t *testing.T, prefix string, want ...string) {
	t.Helper()
	if got := s.keys(t, prefix); !slices.Equal(got, want) {
		t.Errorf("list %q: got %q, want %q", prefix, got, want)
	}
}

// absent checks that nothing is there under key, and that no writer left anything.
func (s Subject) absent(t *testing.T, key string) {
	t.Helper()
	if o, err := s.Backend.Stat(t.Context(), key); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("stat %s: got %+v, %v, want ErrNotFound", key, o, err)
	}
	s.listed(t, "default/")
	s.nothingLeft(t)
}

func (s Subject) nothingLeft(t *testing.T) {
	t.Helper()
	if s.Leftovers == nil {
		return
	}
	if left := s.Leftovers(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// explained checks that an error says which backend it is of.
func (s Subject) explained(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Backend != s.Backend.Name() {
		t.Errorf("not an error of the backend: %v", err)
	}
}

// script is a reader of a number of bytes, which then does something.
type script struct {
	left int
	then func() (int, error)
}

func (r *script) Read(p []byte) (int, error) {
	if r.left == 0 {
		return r.then()
	}
	n := min(len(p), r.left)
	r.left -= n
	return n, nil
}

// waiting is a reader that waits until ctx is done.
func waiting(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}
