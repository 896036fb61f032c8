package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/file"
)

// CIFS, FUSE and some servers of NFS know neither modes nor the sync of a directory.
func TestFileSystemWithoutModesAndSyncOfDirectories(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EINVAL, syscall.ENOTSUP, syscall.ENOSYS} {
		b, store, _ := newLocal(t, "")
		store.SetFsync(func(f *os.File) error {
			if info, err := f.Stat(); err != nil || !info.IsDir() {
				return err
			}
			return &fs.PathError{Op: "sync", Path: f.Name(), Err: errno}
		})
		store.SetChmod(func(f *os.File, _ fs.FileMode) error {
			return &fs.PathError{Op: "chmod", Path: f.Name(), Err: syscall.EPERM}
		})
		if err := errors.Join(put(t.Context(), b, "default/x.db"), b.Delete(t.Context(), "default/x.db")); err != nil {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

// A network file system that loses the answer to a rename asks once more, and is told that there is no such file.
func TestRenameWhoseAnswerWasLost(t *testing.T) {
	for _, ifAbsent := range []bool{false, true} {
		b, store, dir := newLocal(t, "")
		store.SetFsync(func(f *os.File) error {
			if key, temp := file.TempKey(filepath.Base(f.Name())); temp {
				return os.Rename(f.Name(), filepath.Join(filepath.Dir(f.Name()), key))
			}
			return f.Sync()
		})
		opts := repository.PutOptions{ContentType: "application/octet-stream", IfAbsent: ifAbsent}
		if err := b.Put(t.Context(), "default/x.db", strings.NewReader("data"), opts); err != nil {
			t.Errorf("if absent %t: %v", ifAbsent, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "default", "x.db")); err != nil || string(got) != "data" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// Servers of NFS may give a name twice, and keep files that are open under names of their own.
func TestDirectoryOfAServer(t *testing.T) {
	b, store, dir := newLocal(t, "")
	for _, key := range []string{"default/x.db", "default/y.db"} {
		if err := put(t.Context(), b, key); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".nfs000000000018e17900000001", ".fuse_hidden0000001200000003"} {
		if err := os.WriteFile(filepath.Join(dir, "default", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store.SetEntered(func(dir string) ([]fs.DirEntry, error) {
		all, err := os.ReadDir(dir)
		twice := slices.Concat(all, all)
		slices.SortFunc(twice, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		return twice, err
	})
	var names []string
	for o, err := range b.List(t.Context(), "default/") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Key)
	}
	if !slices.Equal(names, []string{"default/x.db", "default/y.db"}) {
		t.Errorf("got %q", names)
	}
}

// Errors of network file systems name a way out.
func TestErrorsOfNetworkFileSystems(t *testing.T) {
	for errno, test := range map[syscall.Errno]struct {
		reason snapshot.Reason
		hint   string
	}{
		syscall.ESTALE:   {snapshot.ReasonBackendUnavailable, "mount it anew"},
		syscall.ENOTCONN: {snapshot.ReasonBackendUnavailable, "mount it anew"},
		syscall.EIO:      {snapshot.ReasonBackendUnavailable, "kernel's log"},
		syscall.EROFS:    {snapshot.ReasonBackendAccessDenied, "read-only"},
		syscall.EDQUOT:   {snapshot.ReasonNoSpace, "quota"},
		syscall.EEXIST:   {snapshot.ReasonBackendUnavailable, "workaround=rename"},
	} {
		b, store, _ := newLocal(t, "")
		store.SetFsync(func(f *os.File) error { return &fs.PathError{Op: "sync", Path: f.Name(), Err: errno} })
		e, ok := errors.AsType[*snapshot.Error](put(t.Context(), b, "default/x.db"))
		if !ok || e.Reason != test.reason || !strings.Contains(e.Hint, test.hint) {
			t.Errorf("%v: got %v, want %s and %q", errno, e, test.reason, test.hint)
		}
	}
}
