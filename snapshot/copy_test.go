package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	filippo "filippo.io/age"

	"github.com/snapshotd/snapshotd/internal/codec/age"
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

func readCopy(t *testing.T, b snapshot.Backend, s *snapshot.Snapshot, ids ...age.Identities) ([]byte, error) {
	t.Helper()
	r, err := snapshot.OpenCopy(t.Context(), b, "default/"+s.DataKey(), s, ids...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

func readStored(t *testing.T, b snapshot.Backend, s *snapshot.Snapshot) ([]byte, error) {
	t.Helper()
	r, err := snapshot.OpenStored(t.Context(), b, "default/"+s.DataKey(), s)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

// keyPair returns a recipient and its identity.
func keyPair(t *testing.T) (string, age.Identities) {
	t.Helper()
	id, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte(id.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := age.ReadIdentities(file)
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), ids
}

func recipients(t *testing.T, keys ...string) age.Recipients {
	t.Helper()
	r, err := age.NewRecipients(keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantReason(t *testing.T, what string, err error, reason snapshot.Reason) {
	t.Helper()
	e, ok := errors.AsType[*snapshot.Error](err)
	if !ok || e.Reason != reason || e.Backend != "one" {
		t.Errorf("%s: %v, want %s of one", what, err, reason)
	}
}

// flipsAndCuts is how many bits are flipped and lengths cut off of each kind of object. The race detector makes it all slow,
// and has nothing to find in the last ones that it would not find in the first: with it, all kinds together get as many.
func flipsAndCuts() (flips, cuts int) {
	if raceDetector {
		return 2_500, 250
	}
	return 10_000, 1_000
}

// damages calls check, on several goroutines, with copies of a document of which one bit is not as it was, or that are too
// short.
func damages(t *testing.T, good []byte, check func(what string, bad []byte)) {
	t.Helper()
	flips, cuts := flipsAndCuts()
	seed := rand.Uint64()
	t.Logf("seed %d, %d bytes, %d flips, %d cuts", seed, len(good), flips, cuts)
	rnd := rand.New(rand.NewPCG(seed, 0))
	type job struct{ at, bit int }
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			own := bytes.Clone(good)
			for j := range jobs {
				if j.bit < 0 {
					check(fmt.Sprintf("cut off after %d bytes", j.at), own[:j.at])
					continue
				}
				own[j.at] ^= 1 << j.bit
				check(fmt.Sprintf("bit %d of byte %d flipped", j.bit, j.at), own)
				own[j.at] ^= 1 << j.bit
			}
		})
	}
	for range flips {
		jobs <- job{rnd.IntN(len(good)), rnd.IntN(8)}
	}
	for range cuts {
		jobs <- job{rnd.IntN(len(good)), -1}
	}
	close(jobs)
	workers.Wait()
}

// Whatever bit of an object changes and wherever it is cut off, reading it is an error, and what is whole is read as etcd
// sent it.
func TestCopyShowsEveryDamage(t *testing.T) {
	key, ids := keyPair(t)
	for name, edit := range map[string]func(*snapshot.Config){
		"none":     func(c *snapshot.Config) { c.Compression = snapshot.CompressionNone },
		"zstd":     func(c *snapshot.Config) { c.Compression = snapshot.CompressionZstd },
		"age":      func(c *snapshot.Config) { c.Compression, c.Recipients = snapshot.CompressionNone, recipients(t, key) },
		"zstd+age": func(c *snapshot.Config) { c.Recipients = recipients(t, key) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, edit)
			s := f.mustSave(t)
			b := f.backends["one"]
			sent, err := readCopy(t, b, s, ids)
			if err != nil || int64(len(sent)) != s.DBSize+32 {
				t.Fatalf("the good copy: %d bytes, %v", len(sent), err)
			}
			good, err := os.ReadFile(f.path("one", s.Name, s.DataKey()[len(s.Name):]))
			if err != nil {
				t.Fatal(err)
			}
			if stored, err := readStored(t, b, s); err != nil || !bytes.Equal(stored, good) {
				t.Fatalf("the good copy as it is stored: %d bytes, %v", len(stored), err)
			}
			damaged := func(what string, object []byte) {
				t.Helper()
				_, err := readCopy(t, &memory{b, object}, s, ids)
				wantReason(t, what, err, snapshot.ReasonChecksumMismatch)
			}
			damages(t, good, damaged)
			damaged("a longer object", append(bytes.Clone(good), 0))
			damaged("an object twice", append(bytes.Clone(good), good...))
			for _, bad := range [][]byte{good[:len(good)-1], append(bytes.Clone(good), 0), append([]byte{good[0] ^ 1}, good[1:]...)} {
				_, err := readStored(t, &memory{b, bad}, s)
				wantReason(t, "a damaged object as it is stored", err, snapshot.ReasonChecksumMismatch)
			}
		})
	}
}

// What is sealed is the same object on all backends, and can be read with the identity of each recipient and no other.
func TestSealedSnapshot(t *testing.T) {
	one, idOne := keyPair(t)
	two, idTwo := keyPair(t)
	_, idOther := keyPair(t)
	f := newFixture(t, func(c *snapshot.Config) { c.Recipients = recipients(t, one, two) })
	s := f.mustSave(t)
	if want := []string{one, two}; !slices.Equal(s.EncryptionRecipients, want) || !strings.HasSuffix(s.Locations[0].URI, s.Name+".db.zst.age") {
		t.Errorf("sealed for %q at %s, want for %q", s.EncryptionRecipients, s.Locations[0].URI, want)
	}
	if a, b := read(t, f.path("one", s.Name, ".db.zst.age")), read(t, f.path("two", s.Name, ".db.zst.age")); string(a) != string(b) || int64(len(a)) != s.StoredSize {
		t.Errorf("the objects have %d and %d bytes, and are not the same or not %d", len(a), len(b), s.StoredSize)
	}
	b := f.backends["one"]
	for _, ids := range []age.Identities{idOne, idTwo} {
		if sent, err := readCopy(t, b, s, idOther, ids); err != nil || int64(len(sent)) != s.DBSize+32 {
			t.Errorf("%d bytes, %v", len(sent), err)
		}
	}
	for _, ids := range [][]age.Identities{{idOther}, nil} {
		_, err := readCopy(t, b, s, ids...)
		wantReason(t, "without its identity", err, snapshot.ReasonSnapshotSealed)
		if !strings.Contains(err.Error(), one) || !strings.Contains(err.Error(), two) {
			t.Errorf("the error does not say whose identity it takes: %v", err)
		}
	}
	lost := &snapshot.Error{Reason: snapshot.ReasonBackendUnavailable, Backend: "one", Message: "the connection broke"}
	if _, err := readCopy(t, &breaking{b, lost}, s, idOne); !errors.Is(err, lost) {
		t.Errorf("with a backend that breaks: %v", err)
	}

	f.forget(t, s.Name)
	f.mustReconcile(t)
	again := f.records(t)[s.Name]
	if again == nil || again.State != snapshot.StateReady || !slices.Equal(again.EncryptionRecipients, s.EncryptionRecipients) {
		t.Errorf("found again as %+v", again)
	}
}

// breaking is a backend whose reads fail.
type breaking struct {
	snapshot.Backend
	err error
}

func (b *breaking) Get(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(iotest.ErrReader(b.err)), nil
}
