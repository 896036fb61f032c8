package snapshot

import (
	"fmt"
	"syscall"
)

// hintSpool says what to do about a spool that is full.
const hintSpool = "the spool holds the database and one compressed copy of it while a save runs, the database and 65 MB while a drill does; " +
	"free space there or move it with --data-dir"

// checkSpace refuses what would fill the spool's disk: etcd itself may live there.
func checkSpace(dir string, size int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return spoolError("measure the free space of", err)
	}
	free := int64(fs.Bavail) * int64(fs.Bsize) //nolint:unconvert // on other systems it is
	if free >= size {
		return nil
	}
	return &Error{
		Reason:  ReasonNoSpace,
		Message: fmt.Sprintf("spool the snapshot: %d bytes are needed, and %s has %d free", size, dir, free),
		Hint:    hintSpool,
		Retry:   retryAfter(ReasonNoSpace),
	}
}
