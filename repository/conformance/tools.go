package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

const mib = 1 << 20

// block is random, and longer than any content by the places at which one can begin.
var block = sync.OnceValue(func() []byte {
	b := make([]byte, 32*mib)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

// content returns n bytes that differ from place to place, and from seed to seed. They are not to be changed.
func content(seed uint64, n int) []byte {
	begin := seed * 7919 % mib
	return block()[begin:][:n:n]
}

func putOptions(size int) repository.PutOptions {
	return repository.PutOptions{ContentType: "application/octet-stream", SizeHint: int64(size)}
}

// put stores b under key.
func (s Subject) put(t *testing.T, key string, b []byte) {
	t.Helper()
	if err := s.Backend.Put(t.Context(), key, onlyReader{bytes.NewReader(b)}, putOptions(len(b))); err != nil {
		t.Fatal(err)
	}
}

// onlyReader hides all methods of a reader but Read.
type onlyReader struct{ io.Reader }

// stock puts many small objects.
func (s Subject) stock(t *testing.T, keys []string) {
	t.Helper()
	if s.Stock != nil {
		s.Stock(t, keys)
		return
	}
	for _, key := range keys {
		if err := s.Backend.Put(t.Context(), key, bytes.NewReader([]byte("{}")), putOptions(2)); err != nil {
			t.Fatal(err)
		}
	}
}

// holds checks that key holds want, for Get and for Stat.
func (s Subject) holds(t *testing.T, key string, want []byte) {
	t.Helper()
	r, err := s.Backend.Get(t.Context(), key, repository.Range{})
	if err != nil {
		t.Fatal(err)
	}
	if err := compare(r, want); err != nil {
		t.Errorf("%s: %v", key, err)
	}
	o, err := s.Backend.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if o.Key != key || o.Size != int64(len(want)) || o.ModTime.IsZero() {
		t.Errorf("stat %s: got %+v, want size %d", key, o, len(want))
	}
}

// holdsRange checks that a range of key holds want.
func (s Subject) holdsRange(t *testing.T, key string, x repository.Range, want []byte) {
	t.Helper()
	r, err := s.Backend.Get(t.Context(), key, x)
	if err != nil {
		t.Fatalf("%+v: %v", x, err)
	}
	if err := compare(r, want); err != nil {
		t.Errorf("%+v: %v", x, err)
	}
}

// compare reads all there is, closes the reader, and describes the difference. Nothing is kept: the race detector looks
// at each byte that is copied.
func compare(r io.ReadCloser, want []byte) error {
	m := &matcher{want: want}
	_, err := io.Copy(m, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if m.differs || m.n != len(want) {
		return fmt.Errorf("got %d bytes, want %d others", m.n, len(want))
	}
	return nil
}

type matcher struct {
	want    []byte
	n       int
	differs bool
}

func (m *matcher) Write(p []byte) (int, error) {
	rest := m.want[min(m.n, len(m.want)):]
	m.differs = m.differs || len(p) > len(rest) || !bytes.Equal(p, rest[:len(p)])
	m.n += len(p)
	return len(p), nil
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

// listed checks the objects of a listing.
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

// explained checks that an error names the backend and has a reason.
func (s Subject) explained(t *testing.T, err error, want snapshot.Reason) {
	t.Helper()
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Backend != s.Backend.Info().Name || e.Reason != want {
		t.Errorf("got %v (%s of %q), want %s of the backend", err, snapshot.ReasonOf(err), snapshot.BackendOf(err), want)
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
