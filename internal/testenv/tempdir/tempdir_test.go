package tempdir

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFilesAreInMemoryWhereThereIsRoom(t *testing.T) {
	if room(shared) < minRoom {
		t.Skip("there is little room")
	}
	t.Setenv("TMPDIR", "")
	remove := InMemory()
	dir := os.TempDir()
	if filepath.Dir(dir) != shared {
		mine, err := os.MkdirTemp(shared, pattern)
		if err != nil {
			t.Skip(err)
		}
		defer func() { _ = os.RemoveAll(mine) }()
		unlock, err := lock(mine)
		if err != nil {
			t.Skip(err)
		}
		unlock()
		t.Errorf("temporary files are in %s", dir)
	}
	if onDisk := OnDisk(t); strings.HasPrefix(onDisk, shared) || filepath.Dir(onDisk) != Disk() {
		t.Errorf("large files are in %s", onDisk)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("programs of other users cannot write there: %v, %v", info.Mode(), err)
	}
	if _, err := lock(dir); err == nil {
		t.Error("another process could take the directory")
	}
	remove()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestAPlaceThatTheCallerChoseStays(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	before := os.TempDir()
	remove := InMemory()
	if got := os.TempDir(); got != before {
		t.Errorf("temporary files are in %s", got)
	}
	remove()
	if _, err := os.Stat(before); err != nil {
		t.Error(err)
	}
}

// mkdir makes a directory that is not empty.
func mkdir(t *testing.T, parent, name string, age time.Duration) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(dir, time.Time{}, time.Now().Add(-age)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDirectoriesOfDeadProcessesAreRemoved(t *testing.T) {
	parent := t.TempDir()
	dead, fresh := mkdir(t, parent, "snapshotd-test-1", time.Hour), mkdir(t, parent, "snapshotd-test-2", 0)
	used, other := mkdir(t, parent, "snapshotd-test-3", time.Hour), mkdir(t, parent, "other-1", time.Hour)
	unlock, err := lock(used)
	if err != nil {
		t.Skip(err)
	}
	defer unlock()
	t.Setenv("TMPDIR", "")
	in(parent, math.MaxInt64)() // they are removed where there is little room, too
	if got := os.Getenv("TMPDIR"); got != "" {
		t.Errorf("temporary files are in %s", got)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	for _, dir := range []string{fresh, other, used} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}
