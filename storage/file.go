package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/gcerrors"

	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// fileStore is a directory.
type fileStore struct {
	root   string
	prefix string
	create bool

	fsync func(*os.File) error // of files and directories

	mu     sync.Mutex
	bucket *blob.Bucket
}

func newFileStore(loc *location, create bool) *fileStore {
	return &fileStore{root: filepath.FromSlash(loc.dir), prefix: loc.prefix, create: create, fsync: (*os.File).Sync}
}

func (f *fileStore) uri(key string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(f.root) + "/" + f.prefix + key}
	return u.String()
}

// path returns where a key is.
func (f *fileStore) path(key string) string {
	return filepath.Join(f.root, filepath.FromSlash(f.prefix+key))
}

// open returns the bucket, if its directory is there. That is asked each time: fileblob creates a directory that has
// vanished, and what is written then is under the mount point instead of on the disk.
func (f *fileStore) open() (*blob.Bucket, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bucket == nil && f.create {
		if err := f.mkdirAll(f.root); err != nil {
			return nil, err
		}
	}
	if err := f.checkRoot(); err != nil {
		return nil, err
	}
	if f.bucket == nil {
		b, err := fileblob.OpenBucket(f.root, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: dirMode})
		if err != nil {
			return nil, err
		}
		f.bucket = b
	}
	return f.bucket, nil
}

// rootError is that the directory itself is not there: nothing is known of what is in it.
type rootError struct {
	dir string
	why string
}

func (e *rootError) Error() string { return fmt.Sprintf("the directory %s %s", e.dir, e.why) }

func (f *fileStore) checkRoot() error {
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

func (f *fileStore) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bucket == nil {
		return nil
	}
	b := f.bucket
	f.bucket = nil
	return b.Close()
}

func (f *fileStore) get(ctx context.Context, key string, x extent) (io.ReadCloser, error) {
	b, err := f.open()
	if err != nil {
		return nil, err
	}
	if err := f.checkFile(key); err != nil {
		return nil, err
	}
	r, err := b.NewRangeReader(ctx, f.prefix+key, x.offset, x.length, nil)
	if err != nil {
		return nil, f.missing(err)
	}
	return r, nil
}

func (f *fileStore) stat(ctx context.Context, key string) (snapshot.Object, error) {
	b, err := f.open()
	if err != nil {
		return snapshot.Object{}, err
	}
	if err := f.checkFile(key); err != nil {
		return snapshot.Object{}, err
	}
	attrs, err := b.Attributes(ctx, f.prefix+key)
	if err != nil {
		return snapshot.Object{}, f.missing(err)
	}
	return snapshot.Object{Key: key, Size: attrs.Size, ModTime: attrs.ModTime}, nil
}

// checkFile says of what is neither a file nor a directory that there is no such object, as list does: whoever opens a pipe
// that nobody writes to waits for ever.
func (f *fileStore) checkFile(key string) error {
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
func (f *fileStore) missing(err error) error {
	if gcerrors.Code(err) != gcerrors.NotFound && !isAbsent(err) {
		return err
	}
	if err := f.checkRoot(); err != nil {
		return err
	}
	return snapshot.ErrNotFound
}

// remove removes a file and makes that durable. What is not there may have been removed a moment ago by one who could
// not make it durable any more, so that is done either way.
func (f *fileStore) remove(ctx context.Context, key string) error {
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
	return f.fsync(dir)
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
