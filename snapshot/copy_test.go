package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/snapshotd/snapshotd/snapshot"
)

// memory is a backend that holds one object.
type memory struct {
	snapshot.Backend
	object []byte
}

func (m *memory) Get(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m.object)), nil
}

func readCopy(t *testing.T, b snapshot.Backend, s *snapshot.Snapshot) ([]byte, error) {
	t.Helper()
	r, err := snapshot.OpenCopy(t.Context(), b, "default/"+s.DataKey(), s)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

// Whatever bit of an object changes and wherever it is cut off, reading it is an error, and what is whole is read as etcd
// sent it.
func TestCopyShowsEveryDamage(t *testing.T) {
	for _, compression := range []snapshot.Compression{snapshot.CompressionNone, snapshot.CompressionZstd} {
		t.Run(compression.String(), func(t *testing.T) {
			f := newFixture(t, func(c *snapshot.Config) { c.Compression = compression })
			s := f.mustSave(t)
			b := f.backends["one"]
			sent, err := readCopy(t, b, s)
			if err != nil || int64(len(sent)) != s.DBSize+32 {
				t.Fatalf("the good copy: %d bytes, %v", len(sent), err)
			}
			good, err := os.ReadFile(f.path("one", s.Name, s.DataKey()[len(s.Name):]))
			if err != nil {
				t.Fatal(err)
			}
			damaged := func(what string, object []byte) {
				t.Helper()
				_, err := readCopy(t, &memory{b, object}, s)
				e, ok := errors.AsType[*snapshot.Error](err)
				if !ok || e.Reason != snapshot.ReasonChecksumMismatch || e.Backend != "one" {
					t.Errorf("%s: %v, want CHECKSUM_MISMATCH of one", what, err)
				}
			}
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 0))
			for range 500 {
				bad := bytes.Clone(good)
				bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
				damaged("a flipped bit", bad)
			}
			for range 100 {
				damaged("a shortened object", good[:rnd.IntN(len(good))])
			}
			damaged("a longer object", append(bytes.Clone(good), 0))
			damaged("an object twice", append(bytes.Clone(good), good...))
		})
	}
}
