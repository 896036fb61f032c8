package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/gcerrors"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Kind is that of directories.
var Kind = driver.Kind{
	Backend:  snapshot.BackendLocal,
	Example:  "file:///DIRECTORY",
	New:      func(loc driver.Location, _ driver.Options) (driver.Store, error) { return New(loc) },
	Explain:  explain,
	Blocking: true,
}

// Store is a directory.
type Store struct {
	root   string
	prefix string

	fsync   func(*os.File) error // of files and directories
	chmod   func(*os.File, fs.FileMode) error
	entered func(dir string) ([]fs.DirEntry, error) // what is in a directory, in the order of the names

	mu     sync.Mutex
	bucket *blob.Bucket
}

// New returns the store in a directory. The directory must exist when the store is used: it is never created, because a
// directory that a person named and that is not there is one that is not mounted.
func New(loc driver.Location) (*Store, error) {
	u := loc.URL
	if u.Host != "" && u.Host != "localhost" || !path.IsAbs(u.Path) || path.Clean(u.Path) == "/" {
		const form = "write it as file:///DIRECTORY, an absolute path after three slashes"
		return nil, errors.New("its URL does not name a directory; " + form)
	}
	return &Store{root: filepath.FromSlash(path.Clean(u.Path)), prefix: loc.Prefix, fsync: (*os.File).Sync,
		chmod: (*os.File).Chmod, entered: os.ReadDir}, nil
}

// URI implements [driver.Store].
func (f *Store) URI(key string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(f.root) + "/" + f.prefix + key}
	return u.String()
}

// path returns where a key is.
func (f *Store) path(key string) string {
	return filepath.Join(f.root, filepath.FromSlash(f.prefix+key))
}

// open returns the bucket, if its directory is there. That is asked each time: fileblob creates a directory that has
// vanished, and files are then written under the mount point instead of on the disk.
func (f *Store) open() (*blob.Bucket, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.checkRoot(); err != nil {
		return nil, err
	}
	if f.bucket == nil {
		b, err := fileblob.OpenBucket(f.root, &fileblob.Options{
			NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: dirMode,
		})
		if err != nil {
			return nil, err
		}
		f.bucket = b
	}
	return f.bucket, nil
}

// rootError is that the directory itself is not there: nothing is known of its files.
type rootError struct {
	dir string
	why string
}

func (e *rootError) Error() string { return fmt.Sprintf("the directory %s %s", e.dir, e.why) }

func (f *Store) checkRoot() error {
	info, err := os.Stat(f.root)
	switch {
	case isAbsent(err):
		return &rootError{f.root, "does not exist"}
	case err != nil:
		return err
	case !info.IsDir():
		return &rootError{f.root, "is a file"}
	}
	return nil
}

// Close closes the bucket that was opened.
func (f *Store) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bucket == nil {
		return nil
	}
	b := f.bucket
	f.bucket = nil
	return b.Close()
}

// Get implements [driver.Store].
func (f *Store) Get(ctx context.Context, key string, x driver.Extent) (io.ReadCloser, error) {
	b, err := f.open()
	if err != nil {
		return nil, err
	}
	if err := f.checkFile(key); err != nil {
		return nil, err
	}
	r, err := b.NewRangeReader(ctx, f.prefix+key, x.Offset, x.Length, nil)
	if err != nil {
		return nil, f.missing(err)
	}
	return r, nil
}

// Stat implements [driver.Store].
func (f *Store) Stat(ctx context.Context, key string) (repository.Object, error) {
	b, err := f.open()
	if err != nil {
		return repository.Object{}, err
	}
	if err := f.checkFile(key); err != nil {
		return repository.Object{}, err
	}
	attrs, err := b.Attributes(ctx, f.prefix+key)
	if err != nil {
		return repository.Object{}, f.missing(err)
	}
	return repository.Object{Key: key, Size: attrs.Size, ModTime: attrs.ModTime}, nil
}

// checkFile returns ErrNotFound for everything that is not a regular file, as List leaves it out: opening a pipe that
// nobody writes to would wait for ever.
func (f *Store) checkFile(key string) error {
	info, err := os.Stat(f.path(key))
	if err != nil {
		return f.missing(err)
	}
	if !info.Mode().IsRegular() {
		return f.missing(fs.ErrNotExist)
	}
	return nil
}

// isAbsent reports whether an error says that there is no such path; also when a file is where a directory would be.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// missing says of an object that is not there that this is so, if the directory is.
func (f *Store) missing(err error) error {
	if gcerrors.Code(err) != gcerrors.NotFound && !isAbsent(err) {
		return err
	}
	if err := f.checkRoot(); err != nil {
		return err
	}
	return snapshot.ErrNotFound
}

// Delete removes a file and makes that durable. A file that is not there may have been removed a moment ago by a
// process that died before it was durable, so the directory is synced either way.
func (f *Store) Delete(ctx context.Context, key string) error {
	b, err := f.open()
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path(key)))
	if isAbsent(err) {
		return f.checkRoot()
	}
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if err := b.Delete(ctx, f.prefix+key); err != nil {
		if err := f.missing(err); !errors.Is(err, snapshot.ErrNotFound) {
			return err
		}
	}
	return f.syncDir(dir)
}

// tempKey returns the key that a temporary file of fileblob was to become, <key>.<hex digits>.tmp.
func tempKey(name string) (key string, ok bool) {
	name, ok = strings.CutSuffix(name, ".tmp")
	if !ok {
		return "", false
	}
	i := strings.LastIndexByte(name, '.')
	if i < 1 || i == len(name)-1 || strings.Trim(name[i+1:], "0123456789abcdef") != "" {
		return "", false
	}
	return name[:i], true
}
