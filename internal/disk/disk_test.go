package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/internal/disk"
)

// A file that is read has not changed; one that is written, replaced, removed or made again has.
func TestStampChangesWithTheFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	other := name + ".new"
	write := func(name, text string) func() error {
		return func() error { return os.WriteFile(name, []byte(text), 0o600) }
	}
	last := disk.Stamp(name)
	for _, step := range []struct {
		what    string
		do      func() error
		changes bool
	}{
		{"made", write(name, "one"), true},
		{"read", func() error {
			_, err := os.ReadFile(name)
			return errors.Join(err, os.Chtimes(name, time.Now().Add(time.Hour), time.Time{}))
		}, false},
		{"written", write(name, "longer"), true},
		{"replaced by one that looks the same", func() error {
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			return errors.Join(write(other, "LONGER")(), os.Chtimes(other, info.ModTime(), info.ModTime()), os.Rename(other, name))
		}, true},
		{"removed", func() error { return os.Remove(name) }, true},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		now := disk.Stamp(name)
		if (now != last) != step.changes {
			t.Errorf("%s: %q, and before %q", step.what, now, last)
		}
		last = now
	}
}

func TestALockIsHeldUntilItsFileIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first, second := open(), open()
	defer func() { _ = second.Close() }()
	if err := disk.Lock(first); err != nil {
		t.Fatal(err)
	}
	if err := disk.Lock(second); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("the lock was taken twice: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Lock(second); err != nil {
		t.Errorf("after the first file was closed: %v", err)
	}
}

func TestFreeSpace(t *testing.T) {
	dir := t.TempDir()
	if n, err := disk.Free(dir); err != nil || n <= 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, size, err := disk.Space(dir); err != nil || n <= 0 || size < n {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
	if _, err := disk.Free(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a missing directory: %v", err)
	}
}

func TestARefusedPathNamesWhoRefusesIt(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"a file":                 {&os.PathError{Op: "open", Path: file, Err: syscall.EACCES}, file + " belongs to "},
		"one to be made":         {&os.PathError{Op: "open", Path: dir + "/new", Err: syscall.EACCES}, dir + " belongs to "},
		"one far below":          {&os.PathError{Op: "mkdir", Path: dir + "/a/b/c", Err: syscall.EPERM}, dir + " belongs to "},
		"one to be removed":      {&os.PathError{Op: "unlinkat", Path: file, Err: syscall.EACCES}, dir + " belongs to "},
		"one to be renamed":      {&os.LinkError{Op: "rename", Old: file, New: file, Err: syscall.EACCES}, dir + " belongs to "},
		"one that is not there":  {&os.PathError{Op: "open", Path: file, Err: syscall.ENOENT}, ""},
		"a refusal without path": {syscall.EACCES, ""},
		"no error":               {nil, ""},
	} {
		got := disk.Denied(tc.err)
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
