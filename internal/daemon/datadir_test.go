package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snapshotd/snapshotd/internal/config"
)

func TestDataDirectoryBelongsToOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	first, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = openDataDir(path)
	if want := fmt.Sprintf("%q is in use by another snapshotd (process %d); --data-dir sets another one",
		path, os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want %s", err, want)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	second, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.close() }()
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

func TestSpoolIsEmptiedAtStart(t *testing.T) {
	d, err := openDataDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	dir, err := d.spool("gone")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "half.db"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.emptySpool(); err != nil {
		t.Fatal(err)
	}
	if dir, err = d.spool("default"); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(d.path, "spool", "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("left in the spool: %q, %v", left, err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("mode of the spool %v, %v", fi.Mode(), err)
	}
}

// Whatever the configuration says: a store of snapshots in the spool is not removed, and the service does not start.
func TestASpoolWithAStoreInItIsNotEmptied(t *testing.T) {
	dir := t.TempDir()
	marker := filepath.Join(dir, "spool", "backups", "snapshotd-store.json")
	if err := os.MkdirAll(filepath.Dir(marker), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(marker, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{DataDir: dir, Log: config.Log{Level: "info", Format: "text"}}
	s, err := New(Config{Config: cfg, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Dir(marker) + " is a store of snapshots"
	if err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the service starts with %v", err)
	}
	if _, err := os.Stat(marker); err != nil {
		t.Errorf("the store is gone: %v", err)
	}
}

// The lock is written to: through a link, another file would be.
func TestLockOfTheDataDirectoryIsNoLink(t *testing.T) {
	dir, precious := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	if d, err := openDataDir(dir); err == nil {
		t.Errorf("the lock was taken through a link: %v", d.close())
	}
	if b, err := os.ReadFile(precious); err != nil || string(b) != "precious" {
		t.Errorf("the file behind the link is %q, %v", b, err)
	}
}
