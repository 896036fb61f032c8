package repository

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// hintSpool is the advice about a full spool.
	hintSpool = "the spool holds the database and the copy of it that is stored while a save runs, " +
		"the database and 65 MB while a drill does; free space there or move it with --data-dir"
	// reserveShare is the part of a small disk that stays free.
	reserveShare = 20
	// lookInterval is how many bytes are spooled between two looks at the free space.
	lookInterval = 1 << 20
)

// reserve returns how many bytes of a disk the spool leaves free. etcd itself may live there: it makes the next file of
// its log in advance, and ends when there is no room for it. A disk that is too small for an etcd leaves less.
func reserve(size int64) int64 { return min(snapshot.MemberRoom, size/reserveShare) }

// Free returns how many bytes jobs may still write to the spool in a directory.
func Free(dir string) (int64, error) {
	free, size, err := disk.Space(dir)
	return max(0, free-reserve(size)), err
}

// CheckSpace refuses to fill the disk of a directory: etcd itself may live there.
func CheckSpace(dir string, size int64) error {
	if err := lackOf(dir, size, "bytes are needed"); err != nil {
		return err
	}
	return nil
}

// lackOf returns an error when a disk has no room for so many bytes.
func lackOf(dir string, need int64, what string) *snapshot.Error {
	free, size, err := disk.Space(dir)
	if err != nil {
		return snapshot.ReasonInternal.New("measure the free space of the spool").Because(err)
	}
	kept := reserve(size)
	if need <= free-kept {
		return nil
	}
	return snapshot.ReasonNoSpace.
		New("spool the snapshot: %d %s, and %s has %d free, of which %d are left to an etcd that may live on the same disk",
			need, what, dir, free, kept).Advise(hintSpool)
}

// Room is the room in the spool of one job, while it writes there. How much that will be is not known: a database is
// mostly compressed to a quarter, and its save must not be refused because it might not be. So the free space is looked
// at again while the bytes come.
type Room struct {
	dir string

	mu     sync.Mutex
	toCome int64 // bytes that are certain to be written still
	looked int64 // bytes since the last look
}

// NewRoom looks for room in a directory for as many bytes as a job is certain to write.
func NewRoom(dir string, certain int64) (*Room, error) {
	if err := CheckSpace(dir, certain); err != nil {
		return nil, err // a retry may help, unlike when the disk fills up half-way: nothing was read for it yet
	}
	return &Room{dir: dir, toCome: certain, looked: lookInterval}, nil
}

// Writer returns w for a file of the job, as long as there is room. So many of the certain bytes go to it.
func (r *Room) Writer(w io.Writer, certain int64) *RoomWriter {
	return &RoomWriter{room: r, w: w, certain: certain}
}

// RoomWriter writes one file of a job.
type RoomWriter struct {
	room    *Room
	w       io.Writer
	certain int64
}

// Write implements [io.Writer].
func (w *RoomWriter) Write(p []byte) (int, error) {
	foreseen := min(w.certain, int64(len(p)))
	if err := w.room.take(int64(len(p)), foreseen); err != nil {
		return 0, err
	}
	w.certain -= foreseen
	return w.w.Write(p)
}

// End says that no more comes: a database may have become smaller since its size was asked for.
func (w *RoomWriter) End() {
	w.room.mu.Lock()
	defer w.room.mu.Unlock()
	w.room.toCome -= w.certain
	w.certain = 0
}

// Take looks whether there is room for so many bytes that come beside those that were certain.
func (r *Room) Take(bytes int64) error { return r.take(bytes, 0) }

// take looks, from time to time, whether there is room for bytes and for those that are certain to follow them.
func (r *Room) take(bytes, foreseen int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.looked += bytes; r.looked >= lookInterval {
		if err := lackOf(r.dir, r.toCome+bytes-foreseen, "more bytes are needed"); err != nil {
			return err.Final()
		}
		r.looked = 0
	}
	r.toCome -= foreseen
	return nil
}

// SpoolError is the error of an operation on the spool, with advice about a full disk. No retry is promised: a disk
// that fills up during a save does so again.
func SpoolError(op string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return snapshot.ReasonNoSpace.New("%s the spool", op).Because(err).Final().Advise(hintSpool)
	}
	return snapshot.ReasonInternal.New("%s the spool", op).Because(err)
}
