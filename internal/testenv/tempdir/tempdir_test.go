package tempdir

import (
	"os"
	"path/filepath"
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
		t.Errorf("temporary files are in %s", dir)
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

func TestDirectoriesOfDeadProcessesAreRemoved(t *testing.T) {
	parent := t.TempDir()
	mkdir := func(name string, age time.Duration) string {
		dir := filepath.Join(parent, name)
		if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dead, fresh, other := mkdir("snapshotd-test-1", time.Hour), mkdir("snapshotd-test-2", 0), mkdir("other-1", time.Hour)
	used := mkdir("snapshotd-test-3", time.Hour)
	unlock, err := lock(used)
	if err != nil {
		t.Skip(err)
	}
	defer unlock()
	removeAbandoned(parent)
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	for _, dir := range []string{fresh, other, used} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}
