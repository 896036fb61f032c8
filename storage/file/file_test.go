package file_test

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/conformance"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage"
	"github.com/snapshotd/snapshotd/storage/driver"
	"github.com/snapshotd/snapshotd/storage/file"
)

// newLocal returns a backend on a directory of its own, and its store.
func newLocal(t *testing.T, prefix string) (*storage.Backend, *file.Store, string) {
	t.Helper()
	dir := t.TempDir()
	store, err := file.New(driver.Location{URL: &url.URL{Scheme: "file", Path: dir}, Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	b := storage.NewBackend("local", file.Kind, store, storage.DefaultStallTimeout)
	t.Cleanup(func() { _ = b.Close(t.Context()) })
	return b, store, dir
}

func TestDirectoryKeepsThePromises(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{"root": "", "prefix": "some/where/"} {
		t.Run(name, func(t *testing.T) {
			conformance.Run(t, func(t *testing.T) conformance.Subject {
				return subjectOn(newLocal(t, prefix))
			})
		})
	}
}

func subjectOn(b *storage.Backend, f *file.Store, dir string) conformance.Subject {
	rec := &recorder{}
	f.SetFsync(rec.sync)
	plant := func(t *testing.T, path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return conformance.Subject{
		Backend:   b,
		Leftovers: func(t *testing.T) []string { return temporary(t, dir) },
		Plant:     func(t *testing.T, key string) { t.Helper(); plant(t, f.Path(key)+".18a0b1c2d3e4f567.tmp") },
		Stock: func(t *testing.T, keys []string) {
			t.Helper()
			for _, key := range keys {
				plant(t, f.Path(key))
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

// recorder lists the files whenever something is synced.
type recorder struct {
	mu    sync.Mutex
	steps []conformance.Step
}

func (r *recorder) sync(synced *os.File) error {
	info, err := synced.Stat()
	if err != nil {
		return err
	}
	step := conformance.Step{Directory: info.IsDir(), Size: info.Size()}
	if key, ok := file.TempKey(filepath.Base(synced.Name())); ok {
		_, err = os.Lstat(filepath.Join(filepath.Dir(synced.Name()), key))
	} else {
		_, err = os.Lstat(filepath.Join(synced.Name(), "x.db"))
	}
	step.Visible = err == nil
	r.mu.Lock()
	r.steps = append(r.steps, step)
	r.mu.Unlock()
	return synced.Sync()
}

func (r *recorder) take() []conformance.Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps := r.steps
	r.steps = nil
	return steps
}

func put(ctx context.Context, b repository.Backend, key string) error {
	return b.Put(ctx, key, strings.NewReader("data"), repository.PutOptions{ContentType: "application/octet-stream", SizeHint: 4})
}

func TestDirectoryIsPrivate(t *testing.T) {
	b, _, dir := newLocal(t, "some/where/")
	if err := put(t.Context(), b, "default/x.db"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{"some": 0o700, "some/where/default": 0o700, "some/where/default/x.db": 0o600} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

func TestDirectoryIsNotCreated(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	b, err := storage.New(storage.Config{Name: "local", URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	err = put(t.Context(), b, "default/x.db")
	if snapshot.ReasonOf(err) != snapshot.ReasonBackendNotFound {
		t.Errorf("got %v, want BACKEND_NOT_FOUND", err)
	}
	if want := `backend "local": put default/x.db: the directory ` + dir + " does not exist"; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %q, want %q", err, want)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was created: %v", err)
	}

	// It comes later: the same backend takes it.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), b, "default/x.db"); err != nil {
		t.Error(err)
	}
}

func TestVanishedDirectoryIsNotMadeAnew(t *testing.T) {
	b, _, dir := newLocal(t, "")
	if err := put(t.Context(), b, "default/x.db"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+"-unmounted"); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), b, "default/y.db"); err == nil {
		t.Error("it was put into a directory that is not there")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made anew: %v", err)
	}
}

func TestWhatCannotBeSyncedIsNotVisible(t *testing.T) {
	for _, test := range []struct {
		name      string
		directory bool
		err       error
		reason    snapshot.Reason
	}{
		{"file", false, syscall.EIO, snapshot.ReasonBackendUnavailable},
		{"full disk", false, syscall.ENOSPC, snapshot.ReasonNoSpace},
		{"quota", false, syscall.EDQUOT, snapshot.ReasonNoSpace},
		{"read-only", false, syscall.EROFS, snapshot.ReasonBackendAccessDenied},
		{"directory", true, syscall.EIO, snapshot.ReasonBackendUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, store, dir := newLocal(t, "")
			if err := put(t.Context(), b, "default/before.db"); err != nil {
				t.Fatal(err)
			}
			store.SetFsync(func(f *os.File) error {
				if info, err := f.Stat(); err != nil || info.IsDir() != test.directory {
					return err
				}
				return &fs.PathError{Op: "sync", Path: f.Name(), Err: test.err}
			})
			err := put(t.Context(), b, "default/x.db")
			if !errors.Is(err, test.err) || snapshot.ReasonOf(err) != test.reason {
				t.Errorf("got %v (%s), want %v (%s)", err, snapshot.ReasonOf(err), test.err, test.reason)
			}
			if _, err := b.Stat(t.Context(), "default/x.db"); !errors.Is(err, snapshot.ErrNotFound) {
				t.Errorf("it is visible: %v", err)
			}
			if left := temporary(t, dir); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// A disk that loses the end of a file after it was synced is found out at once.
func TestFileThatIsNotWholeIsAnError(t *testing.T) {
	b, store, dir := newLocal(t, "")
	target := filepath.Join(dir, "default", "x.db")
	for name, lose := range map[string]func() error{
		"cut": func() error { return os.Truncate(target, 3) }, "gone": func() error { return os.Remove(target) },
	} {
		store.SetFsync(func(f *os.File) error {
			info, err := f.Stat()
			if err == nil && info.IsDir() && filepath.Base(f.Name()) == "default" {
				return lose()
			}
			return err
		})
		err := put(t.Context(), b, "default/x.db")
		if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := b.Stat(t.Context(), "default/x.db"); !errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("%s: it is visible: %v", name, err)
		}
	}
}

// A file that another writer puts in its place is that writer's: it is no error, and it stays.
func TestFileThatIsReplacedAtOnceStays(t *testing.T) {
	b, store, dir := newLocal(t, "")
	target := filepath.Join(dir, "default", "x.db")
	for range 20 { // file systems give the numbers of removed files to new ones
		store.SetFsync(func(f *os.File) error {
			info, err := f.Stat()
			if err != nil || !info.IsDir() || filepath.Base(f.Name()) != "default" {
				return err
			}
			return errors.Join(os.Remove(target), os.WriteFile(target, []byte("of another writer"), 0o600))
		})
		if err := put(t.Context(), b, "default/x.db"); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(target); err != nil || string(got) != "of another writer" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

// Reasons of single objects are not those of the whole directory.
func TestReasonsOfObjects(t *testing.T) {
	b, _, _ := newLocal(t, "")
	if err := put(t.Context(), b, "default/x.db"); err != nil {
		t.Fatal(err)
	}
	_, absent := b.Stat(t.Context(), "default/y.db")
	there := b.Put(t.Context(), "default/x.db", strings.NewReader(""), repository.PutOptions{ContentType: "a/b", IfAbsent: true})
	_, noRange := b.Get(t.Context(), "default/x.db", repository.Range{Offset: -1, Length: 5})
	for _, test := range []struct {
		err  error
		want snapshot.Reason
	}{
		{absent, snapshot.ReasonObjectNotFound}, {there, snapshot.ReasonObjectExists}, {noRange, snapshot.ReasonInvalidArgument},
		{put(t.Context(), b, "default/x\n.db"), snapshot.ReasonInvalidArgument},
		{put(t.Context(), b, "default/"+strings.Repeat("x", 300)), snapshot.ReasonInvalidArgument},
	} {
		e, ok := errors.AsType[*snapshot.Error](test.err)
		if !ok || e.Reason != test.want || e.Retry != 0 {
			t.Errorf("got %v (%s), want %s and no retry", test.err, snapshot.ReasonOf(test.err), test.want)
		}
	}
}

func TestUnreadableDirectoryIsAnError(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads everything")
	}
	b, _, dir := newLocal(t, "")
	if err := put(t.Context(), b, "default/x.db"); err != nil {
		t.Fatal(err)
	}
	for _, closed := range []string{dir, filepath.Join(dir, "default")} {
		if err := os.Chmod(closed, 0); err != nil {
			t.Fatal(err)
		}
		_, statErr := b.Stat(t.Context(), "default/x.db")
		var listErr error
		for _, listErr = range b.List(t.Context(), "default/") {
		}
		for op, err := range map[string]error{"stat": statErr, "list": listErr, "put": put(t.Context(), b, "default/y.db")} {
			if snapshot.ReasonOf(err) != snapshot.ReasonBackendAccessDenied || errors.Is(err, snapshot.ErrNotFound) {
				t.Errorf("%s: got %v, want BACKEND_ACCESS_DENIED", op, err)
			}
		}
		if err := os.Chmod(closed, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeysThatWouldBeOthersAreRefused(t *testing.T) {
	b, _, dir := newLocal(t, "inside/")
	for _, key := range []string{"", "/x.db", "default/", "default//x.db", "../x.db", "default/../../x.db", "./x.db", "x\n.db", "x\xff.db"} {
		if err := put(t.Context(), b, key); err == nil {
			t.Errorf("put %q: no error", key)
		}
		if _, err := b.Get(t.Context(), key, repository.Range{}); err == nil || errors.Is(err, snapshot.ErrNotFound) {
			t.Errorf("get %q: %v", key, err)
		}
		if err := b.Delete(t.Context(), key); err == nil {
			t.Errorf("delete %q: no error", key)
		}
	}
	for _, err := range b.List(t.Context(), "default") {
		if err == nil {
			t.Error("a prefix without '/' is listed")
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestFoldersAreThoseOfTheRoot(t *testing.T) {
	b, _, dir := newLocal(t, "etcd/")
	for _, sub := range []string{"etcd/a", "etcd/b/deeper", "beside"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etcd/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Folders(t.Context(), 10); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("folders are %q, %v", got, err)
	}
	if got, err := b.Folders(t.Context(), 1); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Errorf("of one at most: %q, %v", got, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Folders(t.Context(), 1); err == nil {
		t.Errorf("of a directory that is not there: %q", got)
	}
}
