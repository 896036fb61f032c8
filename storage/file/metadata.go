package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/snapshotd/snapshotd/snapshot"
	"github.com/snapshotd/snapshotd/storage/driver"
)

// Metadata implements [driver.MetadataReader]. K3s keeps its files on disk beside the directory of the snapshots. A
// copy of a bucket has them where K3s keeps them in a bucket, in that directory.
func (f *Store) Metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := f.checkRoot(); err != nil {
		return nil, err
	}
	dir, name := filepath.Split(f.path(key))
	file := filepath.Join(filepath.Dir(filepath.Clean(dir)), filepath.FromSlash(driver.MetadataKey(name)))
	info, err := os.Stat(file)
	switch {
	case isAbsent(err):
		return f.Get(ctx, driver.MetadataKey(key), driver.Whole)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", file)
	}
	r, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, snapshot.ErrNotFound
	}
	return r, err
}
