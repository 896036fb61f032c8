package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// Put writes a temporary file beside the target, makes it durable, looks whether it is whole, renames it, makes that
// durable, and looks once whether it is there. The directory is open all the while: an error to open it is seen before anything is
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
	if err := f.write(ctx, bucket, f.prefix+key, src, opts); err != nil {
		return err
	}
	if err := f.fsync(dir); err != nil {
		if !existed {
			_ = os.Remove(target)
		}
		return err
	}
	// Another writer may have put its own file there meanwhile; so the size is compared before the rename.
	if _, err := os.Stat(target); err != nil {
		return fmt.Errorf("it was written and is not there: %w", err)
	}
	return nil
}

// write makes the file, under its temporary name, and renames it.
func (f *Store) write(
	ctx context.Context, bucket *blob.Bucket, key string, src *driver.Source, opts repository.PutOptions,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var file *os.File
	w, err := bucket.NewWriter(ctx, key, &blob.WriterOptions{
		ContentType: opts.ContentType, // without it, the first bytes are kept back to guess it
		IfNotExist:  opts.IfAbsent,
		BeforeWrite: func(as func(any) bool) error {
			if !as(&file) {
				return errors.New("fileblob does not give its file to be synced")
			}
			return file.Chmod(fileMode)
		},
	})
	if err != nil {
		return err
	}
	if err = src.CopyTo(w); err == nil {
		err = f.fsync(file)
	}
	if err == nil {
		err = whole(file, src.Size())
	}
	if err != nil {
		cancel() // before Close, which commits otherwise
		_ = w.Close()
		return err
	}
	err = w.Close()
	if opts.IfAbsent && gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return snapshot.ErrExists
	}
	return err
}

// whole returns an error unless a file has all the bytes that were written to it.
func whole(file *os.File, size int64) error {
	info, err := file.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("it has %d bytes of the %d that were written", info.Size(), size)
	}
	return err
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
	return f.fsync(above)
}
