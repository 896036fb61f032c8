package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// Put writes a temporary file beside the target, makes it durable, renames it, makes that durable, and looks once
// whether the file is there, whole. The directory is open all the while: an error to open it is seen before anything is
// written, and its disk cannot be unmounted.
func (f *Store) Put(ctx context.Context, key string, src *driver.Source, opts repository.PutOptions) error {
	bucket, err := f.open()
	if err != nil {
		return err
	}
	target := f.path(key)
	if err := f.mkdirAll(filepath.Dir(target)); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(target))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()

	_, err = os.Lstat(target)
	existed := err == nil
	if existed && opts.IfAbsent {
		return snapshot.ErrExists
	}
	written, err := f.write(ctx, bucket, key, src, opts)
	if err != nil {
		return err
	}
	defer func() { _ = written.Close() }()
	if err := f.syncDir(dir); err != nil {
		if !existed {
			_ = os.Remove(target)
		}
		return err
	}
	return checkWritten(target, written, src.Size())
}

// checkWritten looks at the size of a file that was written. Another file that is there by now has taken its place. The
// file is open, so no other one can have its number.
func checkWritten(target string, written *os.File, size int64) error {
	ours, err := written.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(target)
	if err != nil {
		return fmt.Errorf("it was written and is not there: %w", err)
	}
	same := os.SameFile(now, ours)
	if ours.Size() == size && (now.Size() == size || !same) {
		return nil
	}
	if same {
		_ = os.Remove(target)
	}
	return fmt.Errorf("%s has %d bytes of the %d that were written", target, now.Size(), size)
}

// isAt reports whether a file is under a name.
func isAt(path string, file *os.File) bool {
	ours, err := file.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	return err == nil && os.SameFile(now, ours)
}

// write makes the file, under its temporary name, and renames it. The caller closes the file.
func (f *Store) write(
	ctx context.Context, bucket *blob.Bucket, key string, src *driver.Source, opts repository.PutOptions,
) (written *os.File, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var file *os.File
	w, err := bucket.NewWriter(ctx, f.prefix+key, &blob.WriterOptions{
		ContentType: opts.ContentType, // without it, the first bytes are kept back to guess it
		IfNotExist:  opts.IfAbsent,
		BeforeWrite: func(as func(any) bool) error {
			if !as(&file) {
				return errors.New("fileblob does not give its file to be synced")
			}
			return f.makePrivate(file)
		},
	})
	if err != nil {
		return nil, err
	}
	if _, err = repository.Copy(&takenWriter{w: w, took: opts.Took}, src); err == nil {
		written, err = os.Open(file.Name())
	}
	if err == nil {
		err = f.fsync(file)
	}
	if err != nil {
		cancel() // before Close, which commits otherwise
		_ = w.Close()
		if written != nil {
			_ = written.Close()
		}
		return nil, err
	}
	if err = w.Close(); err == nil || isAt(f.path(key), written) {
		return written, nil // a network file system may lose the answer to a rename, and be asked once more
	}
	_ = written.Close()
	if opts.IfAbsent && gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return nil, snapshot.ErrExists
	}
	return nil, err
}

// takenWriter tells how many bytes were written.
type takenWriter struct {
	w    io.Writer
	n    int64
	took func(int64)
}

func (t *takenWriter) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.n += int64(n)
	t.took(t.n)
	return n, err
}

// mkdirAll creates a directory and those above it that do not exist, down from the root, and makes that durable.
func (f *Store) mkdirAll(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &rootError{dir, "is a file"}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if dir == f.root {
		return f.checkRoot()
	}
	parent := filepath.Dir(dir)
	if err := f.mkdirAll(parent); err != nil {
		return err
	}
	above, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer func() { _ = above.Close() }()
	if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return f.syncDir(above)
}

// syncDir makes the names in a directory durable. Some network file systems do not know that for directories, and make
// names durable by themselves.
func (f *Store) syncDir(dir *os.File) error {
	if err := f.fsync(dir); !isUnknown(err) {
		return err
	}
	return nil
}

// makePrivate keeps others from reading a file. Where the file system has no modes, its mount says who may read.
func (f *Store) makePrivate(file *os.File) error {
	if err := f.chmod(file, fileMode); !isUnknown(err) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return nil
}

// isUnknown reports whether a file system does not know what it was asked for.
func isUnknown(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOSYS)
}
