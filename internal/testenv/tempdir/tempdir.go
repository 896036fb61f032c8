// Package tempdir keeps the temporary files of tests in memory, where there is room. They are many and small, and to
// sync, to make and to remove them on a disk takes most of the time of some packages.
package tempdir

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

const (
	shared  = "/dev/shm" // a file system in memory
	pattern = "snapshotd-test-*"
	minRoom = 4 << 30 // free bytes there and of memory: several times what two packages take
	// minAge is when a directory without a lock has lost its process. A new one has none for a moment.
	minAge = time.Minute
)

// InMemory makes [os.TempDir] a directory in memory, for this process and its children, and returns a function that
// removes it. Nothing changes when TMPDIR is set, when there is little room, as in most
// containers, or when it cannot be done.
func InMemory() (remove func()) { return in(shared, minRoom) }

// in makes [os.TempDir] a directory in parent, when so many bytes are free there.
func in(parent string, free int64) (remove func()) {
	none := func() {}
	if os.Getenv("TMPDIR") != "" {
		return none
	}
	removeAbandoned(parent) // first: they may be why there is little room
	if room(parent) < free {
		return none
	}
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return none
	}
	unlock, err := lock(dir) // some sandboxes refuse locks
	if err == nil {
		err = os.Chmod(dir, 0o777|os.ModeSticky) // as /tmp: some tests run programs of another user
	}
	if err == nil {
		err = os.Setenv("TMPDIR", dir)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return none
	}
	return func() {
		_ = os.RemoveAll(dir)
		unlock()
	}
}

// Run runs the tests of a package with their temporary files in memory.
func Run(m *testing.M) {
	remove := InMemory()
	m.Run()
	remove()
}

// OnDisk returns a directory that is removed with the test, and is not in memory: for large files.
func OnDisk(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp(Disk(), pattern)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Disk returns the directory of temporary files that are not in memory.
func Disk() string { return disk }

var disk = os.TempDir() // before InMemory

// removeAbandoned removes the directories of processes that were killed: they would take memory until the next boot.
func removeAbandoned(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, pattern))
	for _, dir := range dirs {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || time.Since(info.ModTime()) < minAge {
			continue
		}
		if unlock, err := lock(dir); err == nil {
			_ = os.RemoveAll(dir)
			unlock()
		}
	}
}
