package tempdir

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// room returns how many bytes can be stored in a file system in memory; none where no program can be run.
func room(dir string) int64 {
	var fs syscall.Statfs_t
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil || syscall.Statfs(dir, &fs) != nil || fs.Flags&syscall.MS_NOEXEC != 0 {
		return 0
	}
	return min(int64(fs.Bavail)*int64(fs.Bsize), available(info)) //nolint:unconvert // not 64 bits wide on all machines
}

// available returns the free bytes of memory of /proc/meminfo.
func available(info []byte) int64 {
	lines := bufio.NewScanner(bytes.NewReader(info))
	for lines.Scan() {
		var kib int64
		if _, err := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

// lock locks a directory unless another process has it, until it is unlocked or this process ends.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
