package disk

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
)

// Stamp returns a text that changes when one of the files does, also when it is replaced, is missing, or is there
// again. Reading a file does not change it.
func Stamp(files ...string) string {
	var b strings.Builder
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&b, "%q %v\n", name, err)
			continue
		}
		inode := uint64(0)
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = stat.Ino
		}
		fmt.Fprintf(&b, "%q %d %d %d\n", name, info.Size(), info.ModTime().UnixNano(), inode)
	}
	return b.String()
}

// ErrLocked says that another process holds the lock of a file.
var ErrLocked = errors.New("another process has locked it")

// Lock takes the lock of a file or directory for this process, without waiting; ErrLocked when another one holds it.
// The lock ends when f is closed, also by the end of the process.
func Lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// Sync makes the content of a file durable, or the names in a directory.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Free returns how many bytes this process can still write to the file system of a directory.
func Free(dir string) (int64, error) {
	free, _, err := Space(dir)
	return free, err
}

// Space returns how many bytes this process can still write to the file system of a directory, and how many it has.
func Space(dir string) (free, size int64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, err
	}
	block := int64(fs.Bsize) //nolint:unconvert // the types differ between systems
	return int64(fs.Bavail) * block, int64(fs.Blocks) * block, nil
}

// Files returns how many files this process may have open.
func Files() (int, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, err
	}
	return int(min(r.Cur, math.MaxInt32)), nil
}
