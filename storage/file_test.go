package storage

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/snapshotd/snapshotd/storage/storagetest"
)

// newLocal returns a backend on a directory of its own.
func newLocal(t *testing.T, query string) (*Backend, string) {
	t.Helper()
	dir := t.TempDir()
	b, err := New(Config{Name: "local", URL: "file://" + dir + query})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(t.Context()) })
	return b, dir
}

func TestDirectoryKeepsThePromises(t *testing.T) {
	for name, query := range map[string]string{"root": "", "prefix": "?prefix=some/where"} {
		t.Run(name, func(t *testing.T) {
			storagetest.Run(t, func(t *testing.T) storagetest.Subject {
				b, dir := newLocal(t, query)
				return subjectOn(b, dir)
			})
		})
	}
}

func subjectOn(b *Backend, dir string) storagetest.Subject {
	f := b.store.(*fileStore)
	rec := &recorder{f: f}
	f.fsync = rec.sync
	return storagetest.Subject{
		Backend:   b,
		Leftovers: func(t *testing.T) []string { return temporary(t, dir) },
		Plant: func(t *testing.T, key string) {
			t.Helper()
			path := f.path(key) + ".18a0b1c2d3e4f567.tmp"
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Vanish: func(t *testing.T) {
			t.Helper()
			if err := os.Rename(dir, dir+"-unmounted"); err != nil {
				t.Fatal(err)
			}
		},
		Steps: rec.take,
	}
}

// temporary returns the temporary files below a directory.
func temporary(t *testing.T, dir string) []string {
	t.Helper()
	var left []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, ".tmp") {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// recorder looks, whenever something is synced, at what is there at that time.
type recorder struct {
	f     *fileStore
	mu    sync.Mutex
	steps []storagetest.Step
}

func (r *recorder) sync(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	step := storagetest.Step{Directory: info.IsDir(), Size: info.Size()}
	if key, ok := tempKey(filepath.Base(file.Name())); ok {
		_, err = os.Lstat(filepath.Join(filepath.Dir(file.Name()), key))
	} else {
		_, err = os.Lstat(filepath.Join(file.Name(), "x.db"))
	}
	step.Visible = err == nil
	r.mu.Lock()
	r.steps = append(r.steps, step)
	r.mu.Unlock()
	return file.Sync()
}

func (r *recorder) take() []storagetest.Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps := r.steps
	r.steps = nil
	return steps
}
