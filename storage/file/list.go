package file

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// List reads the directory itself: fileblob walks the whole tree for each page, and skips directories that it cannot
// read.
func (f *Store) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	return func(yield func(repository.Object, error) bool) {
		for e, err := range f.entries(ctx, prefix) {
			if err != nil {
				yield(repository.Object{}, err)
				return
			}
			if _, temp := tempKey(e.name); temp || isRemoved(e.name) {
				continue
			}
			if !yield(repository.Object{Key: prefix + e.name, Size: e.info.Size(), ModTime: e.info.ModTime()}, nil) {
				return
			}
		}
	}
}

// isRemoved reports whether a name is that of a file that was removed while somebody had it open: NFS and FUSE keep it
// under such a name until it is closed.
func isRemoved(name string) bool {
	return strings.HasPrefix(name, ".nfs") || strings.HasPrefix(name, ".fuse_hidden")
}

type entry struct {
	name string
	path string
	info fs.FileInfo
}

// entries yields the files of a directory in the order of their names. A directory that does not exist is empty, if the
// root is there. Only the names are held in memory.
func (f *Store) entries(ctx context.Context, prefix string) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		dir := f.path(prefix)
		all, err := f.readDir(dir)
		if err != nil {
			yield(entry{}, err)
			return
		}
		for _, d := range all {
			if err := ctx.Err(); err != nil {
				yield(entry{}, err)
				return
			}
			if d.IsDir() {
				continue
			}
			path := filepath.Join(dir, d.Name())
			info, err := os.Stat(path) // of the target of a symbolic link, as Get does
			if errors.Is(err, fs.ErrNotExist) || d.Type()&fs.ModeSymlink != 0 && leadsNowhere(err) {
				continue // removed since; Stat with its name says why
			}
			if err != nil {
				yield(entry{}, err)
				return
			}
			if info.Mode().IsRegular() && !yield(entry{d.Name(), path, info}, nil) {
				return
			}
		}
	}
}

// Folders implements [driver.FolderLister].
func (f *Store) Folders(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		all, err := f.readDir(f.path(prefix))
		if err != nil {
			yield("", err)
			return
		}
		for _, d := range all {
			if d.IsDir() && !yield(d.Name(), nil) {
				return
			}
		}
	}
}

// leadsNowhere reports whether an error is of a symbolic link: a loop, or a way that is closed or does not go on.
func leadsNowhere(err error) bool {
	return errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG) ||
		errors.Is(err, fs.ErrPermission)
}

func (f *Store) readDir(dir string) ([]fs.DirEntry, error) {
	if _, err := f.open(); err != nil {
		return nil, err
	}
	all, err := f.entered(dir)
	if isAbsent(err) {
		return nil, f.checkRoot()
	}
	if err == nil {
		err = f.checkRoot() // it may have gone while it was read
	}
	// Some servers of NFS begin anew when a directory is changed while it is read.
	same := func(a, b fs.DirEntry) bool { return a.Name() == b.Name() }
	return slices.CompactFunc(all, same), err
}

// Sweep removes the temporary files of writers that died.
func (f *Store) Sweep(ctx context.Context, prefix string, opts repository.SweepOptions) (n int64, err error) {
	for e, err := range f.entries(ctx, prefix) {
		if err != nil {
			return n, err
		}
		key, temp := tempKey(e.name)
		if !temp || !driver.Swept(prefix+key, opts) || !e.info.ModTime().Before(opts.OlderThan) {
			continue
		}
		if !opts.DryRun {
			if err := os.Remove(e.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return n, err
			}
		}
		n++
	}
	return n, nil
}
