package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// What others may have put into a directory stops nobody from seeing the rest of it, and is no object.
func TestOddThingsInADirectoryAreNoObjects(t *testing.T) {
	b, _, root := newLocal(t, "")
	if err := put(t.Context(), b, "default/x.db"); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "default")
	for name, err := range map[string]error{
		"directory":    os.Mkdir(filepath.Join(dir, "dir.db"), 0o700),
		"loop":         os.Symlink("loop.db", filepath.Join(dir, "loop.db")),
		"dangling":     os.Symlink("nothing", filepath.Join(dir, "dangling.db")),
		"through file": os.Symlink("x.db/y.db", filepath.Join(dir, "through.db")),
		"too long":     os.Symlink(strings.Repeat("n", 300), filepath.Join(dir, "long.db")),
		"pipe":         syscall.Mkfifo(filepath.Join(dir, "pipe.json"), 0o600),
		"to a device":  os.Symlink("/dev/zero", filepath.Join(dir, "zero.json")),
		"hard link":    os.Link(filepath.Join(dir, "x.db"), filepath.Join(dir, "y.db")),
		"a good link":  os.Symlink("x.db", filepath.Join(dir, "z.db")),
	} {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var got []string
	for o, err := range b.List(t.Context(), "default/") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimPrefix(o.Key, "default/"))
	}
	if want := []string{"x.db", "y.db", "z.db"}; !slices.Equal(got, want) {
		t.Errorf("listed are %q, want %q", got, want)
	}
	for _, key := range []string{"dir.db", "dangling.db", "pipe.json", "zero.json"} {
		begin := time.Now()
		_, statErr := b.Stat(t.Context(), "default/"+key)
		_, getErr := b.Get(t.Context(), "default/"+key, repository.Range{})
		if !errors.Is(statErr, snapshot.ErrNotFound) || !errors.Is(getErr, snapshot.ErrNotFound) {
			t.Errorf("%s: stat says %v, get %v, after %v", key, statErr, getErr, time.Since(begin))
		}
	}
	for _, key := range []string{"loop.db"} {
		if _, err := b.Stat(t.Context(), "default/"+key); err == nil || errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("%s: %v, and nobody knows what is there", key, err)
		}
	}
}
