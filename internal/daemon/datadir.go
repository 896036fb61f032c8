package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/snapshot"
)

// dataDir is a directory that belongs to this process alone.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory if it is missing, and locks it. The lock ends with the process in any case.
func openDataDir(path string) (*dataDir, error) {
	const hint = "--data-dir sets another one"
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w (%s)", err, hint)
	}
	// A link could lead to a file of somebody else, which would be cut off.
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w (%s)", err, hint)
	}
	d := &dataDir{path: path, lock: f}
	err = disk.Lock(f)
	if errors.Is(err, disk.ErrLocked) {
		return nil, errors.Join(fmt.Errorf("lock the data directory: %q is in use by another snapshotd%s; %s",
			path, d.owner(), hint), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the data directory %q: %w", path, err), f.Close())
	}
	if err := d.sign(); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the data directory: %w", err), f.Close())
	}
	return d, nil
}

// sign writes this process's id into the lock, for a process that finds it taken.
func (d *dataDir) sign() error {
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	_, err := d.lock.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// owner names the process that holds the lock, as a hint alone: the lock decides, and the text may be of
// the process before.
func (d *dataDir) owner() string {
	b := make([]byte, 20)
	n, _ := d.lock.ReadAt(b, 0) // an owner that cannot be read is left out
	if pid := strings.TrimSpace(string(b[:n])); pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}

// emptySpool removes the files that a crash left in the spool: they have no use. It removes nothing where there is a
// store of snapshots, however it came there.
func (d *dataDir) emptySpool() error {
	spool := filepath.Join(d.path, config.SpoolDir)
	err := filepath.WalkDir(spool, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Base(path) == snapshot.MarkerKey {
			return fmt.Errorf("%s is a store of snapshots, and a start removes all that is in the spool; move it to another "+
				"place, and change the URL of its backend", filepath.Dir(path))
		}
		return err
	})
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.RemoveAll(spool)
	}
	if err != nil {
		return fmt.Errorf("empty the spool: %w", err)
	}
	return nil
}

// spool makes and returns the spool directory of a cluster.
func (d *dataDir) spool(cluster string) (string, error) {
	dir := filepath.Join(d.path, config.SpoolDir, cluster)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the spool of cluster %q: %w", cluster, err)
	}
	return dir, nil
}

// fallback returns the directory where this replica puts snapshots that no backend of a cluster took.
func (d *dataDir) fallback(cluster string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(d.path, config.KeptDir, cluster))
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("make the directory for the upload fallback of cluster %q: %w", cluster, err)
	}
	return dir, nil
}

func (d *dataDir) close() error { return d.lock.Close() }
