package database_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/snapshotd/snapshotd/internal/etcd/database"
)

const pageSize = 4096

// TestDamageIsAnErrorAndNeverACrash changes bytes or cuts the end off. What is still called readable must be so for
// etcdutl, too, with the same outcome. SNAPSHOTD_DAMAGES is another number of files.
func TestDamageIsAnErrorAndNeverACrash(t *testing.T) {
	path := layout{
		records: 900, keys: 300, valueSize: 250, deletes: 0.2, compact: true, version: "3.7.0",
		bolt: bolt.Options{PageSize: pageSize},
	}.write(t)
	whole, err := os.ReadFile(path)
	must(t, err)
	want, err := database.File(t.Context(), path, database.Options{})
	must(t, err)

	files := 500
	if n, err := strconv.Atoi(os.Getenv("SNAPSHOTD_DAMAGES")); err == nil {
		files = n
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	refused, same, judged := 0, 0, 0
	for i := range files {
		damaged := damage(rnd, whole)
		must(t, os.WriteFile(path, damaged, 0o600))
		got, err := database.File(t.Context(), path, database.Options{})
		switch {
		case errors.Is(err, database.ErrUnreadable):
			refused++
		case err != nil:
			t.Fatalf("damage %d: an error of another kind: %v", i, err)
		case reflect.DeepEqual(got, want):
			same++ // what was changed belongs to no page in use
		case judged < 40:
			judged++
			says, err := status(t, path)
			if says.OldestRevision = got.OldestRevision; err != nil || !reflect.DeepEqual(says, got) {
				t.Errorf("damage %d: got %+v, etcdutl says %+v (%v)", i, got, says, err)
			}
		}
	}
	t.Logf("of %d: %d refused, %d without effect, %d judged by etcdutl", files, refused, same, judged)
	if refused < files/4 || judged < min(20, files/100) {
		t.Error("the damage is not of every kind any more")
	}
}

// damage returns a copy that is cut, or has a few bytes changed: anywhere, or, what hurts more, in the head of a page.
func damage(rnd *rand.Rand, whole []byte) []byte {
	if rnd.IntN(10) == 0 {
		return append([]byte(nil), whole[:rnd.IntN(len(whole))]...)
	}
	b := append([]byte(nil), whole...)
	at := rnd.IntN(len(b))
	if rnd.IntN(3) > 0 {
		at = rnd.IntN(len(b)/pageSize)*pageSize + rnd.IntN(80)
	}
	for range 1 + rnd.IntN(3) {
		b[min(at+rnd.IntN(8), len(b)-1)] ^= byte(1 + rnd.IntN(255))
	}
	return b
}

// bbolt's own cursor follows such pages for ever, and takes memory with every round.
func TestPagesThatReferToEachOtherAreAnError(t *testing.T) {
	path := layout{records: 20_000, keys: 20_000, valueSize: 50, bolt: bolt.Options{PageSize: pageSize}}.write(t)
	whole, err := os.ReadFile(path)
	must(t, err)
	want, err := database.File(t.Context(), path, database.Options{})
	must(t, err)
	const flags, firstChild, branch = 8, 16 + 8, 1
	refused := 0
	for at := 0; at+pageSize <= len(whole); at += pageSize {
		if binary.NativeEndian.Uint16(whole[at+flags:]) != branch {
			continue
		}
		damaged := append([]byte(nil), whole...)
		binary.NativeEndian.PutUint64(damaged[at+firstChild:], uint64(at/pageSize))
		must(t, os.WriteFile(path, damaged, 0o600))
		got, err := database.File(t.Context(), path, database.Options{})
		switch {
		case errors.Is(err, database.ErrUnreadable):
			refused++
		case err != nil || !reflect.DeepEqual(got, want): // unchanged is right for a page that is free by now
			t.Errorf("branch page %d is its own child: got %+v, %v", at/pageSize, got, err)
		}
	}
	if refused == 0 {
		t.Error("the database has no branch page in use")
	}
}

// callbackContext calls back the n-th time that somebody looks at it.
type callbackContext struct {
	context.Context
	n    int
	call func()
}

func (c *callbackContext) Err() error {
	if c.n--; c.n == 0 {
		c.call()
	}
	return c.Context.Err()
}

func TestFileThatBecomesShorterIsAnErrorAndNoCrash(t *testing.T) {
	path := layout{records: 20_000, keys: 20_000, valueSize: 500}.write(t)
	ctx := &callbackContext{Context: t.Context(), n: 10, call: func() { must(t, os.Truncate(path, 2*pageSize)) }}
	if _, err := database.File(ctx, path, database.Options{}); !errors.Is(err, database.ErrUnreadable) {
		t.Errorf("got %v", err)
	}
	if ctx.n > 0 {
		t.Error("the context was not looked at often enough")
	}
}

func TestCancelEndsAnInspection(t *testing.T) {
	path := layout{records: 20_000, keys: 20_000, valueSize: 500}.write(t)
	gone := errors.New("the caller is gone")
	parent, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	ctx := &callbackContext{Context: parent, n: 10, call: func() { cancel(gone) }}
	_, err := database.File(ctx, path, database.Options{})
	if !errors.Is(err, gone) || errors.Is(err, database.ErrUnreadable) {
		t.Errorf("got %v, want the cause of the cancellation", err)
	}
}

func TestWhatIsNoDatabase(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, size int) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, make([]byte, size), 0o600))
		return path
	}
	for name, path := range map[string]string{
		"an empty file":     file("empty", 0),
		"a checksum alone":  file("sum", 32),
		"a file of zeros":   file("zeros", 1<<20+32),
		"a directory":       dir,
		"a foreign bbolt":   foreign(t),
		"a truncated one":   truncated(t),
		"a revision twice":  withRecords(t, revisionKey(5, 0, ""), revisionKey(5, 0, "t")),
		"a negative one":    withRecords(t, revisionKey(-5, 0, "")),
		"a short one":       withRecords(t, []byte("short")),
		"one of other form": withRecords(t, []byte("12345678-12345678")),
	} {
		if _, err := database.File(t.Context(), path, database.Options{TempDir: dir}); !errors.Is(err, database.ErrUnreadable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	missing := filepath.Join(dir, "missing")
	if _, err := database.File(t.Context(), missing, database.Options{}); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, database.ErrUnreadable) {
		t.Errorf("a missing file: got %v", err)
	}
	path := layout{}.write(t)
	if _, err := database.File(t.Context(), path, database.Options{TempDir: missing}); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, database.ErrUnreadable) {
		t.Errorf("a missing directory for the table: got %v", err)
	}
}
