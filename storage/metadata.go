package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/snapshotd/snapshotd/snapshot"
)

// metadataDir is where K3s and RKE2 keep what they know of a snapshot, in a file of the same name.
const metadataDir = ".metadata"

// besideKey returns the key of what K3s keeps of an object in a bucket.
func besideKey(key string) string {
	dir, name := path.Split(key)
	return dir + metadataDir + "/" + name
}

func (s *s3Store) metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	return s.get(ctx, besideKey(key), whole)
}

// metadata looks where K3s keeps it on disk, beside the directory of the snapshots, and then where it does in a bucket, which
// somebody may have copied here.
func (f *fileStore) metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := f.checkRoot(); err != nil {
		return nil, err
	}
	dir, name := filepath.Split(f.path(key))
	file := filepath.Join(filepath.Dir(filepath.Clean(dir)), metadataDir, name)
	info, err := os.Stat(file)
	switch {
	case isAbsent(err):
		return f.get(ctx, besideKey(key), whole)
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

func (p *patientStore) metadata(ctx context.Context, key string) (io.ReadCloser, error) {
	return p.open(ctx, func() (io.ReadCloser, error) { return p.store.metadata(ctx, key) })
}
