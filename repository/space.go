package repository

import (
	"errors"
	"syscall"

	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/snapshot"
)

// hintSpool is the advice about a full spool.
const hintSpool = "the spool holds the database and one compressed copy of it while a save runs, " +
	"the database and 65 MB while a drill does; free space there or move it with --data-dir"

// CheckSpace refuses to fill the spool's disk: etcd itself may live there.
func CheckSpace(dir string, size int64) error {
	free, err := disk.Free(dir)
	if err != nil {
		return SpoolError("measure the free space of", err)
	}
	if free >= size {
		return nil
	}
	// A retry may help here, unlike when the disk fills up half-way: nothing was read for it yet.
	return snapshot.ReasonNoSpace.New("spool the snapshot: %d bytes are needed, and %s has %d free", size, dir, free).
		Advise(hintSpool)
}

// SpoolError is the error of an operation on the spool, with advice about a full disk. No retry is promised: a disk
// that fills up during a save does so again.
func SpoolError(op string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return snapshot.ReasonNoSpace.New("%s the spool", op).Because(err).Final().Advise(hintSpool)
	}
	return snapshot.ReasonInternal.New("%s the spool", op).Because(err)
}
