// Package disk does with files and file systems what package os has no call for.
package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked is the error of a file that is locked already.
const ErrLocked = unix.EWOULDBLOCK

// Lock locks a file or a directory against others that lock it, in this process or another one, and does not wait for them:
// the error is [ErrLocked] then. The lock ends when f is closed, or with the process.
func Lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// Free returns how many bytes a user without privileges can still write to the file system that dir is on.
func Free(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * int64(fs.Bsize), nil //nolint:unconvert // on other systems it is
}
