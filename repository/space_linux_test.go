package repository_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// smallDisk returns a directory on a file system of so many bytes, in memory.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("a file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

const mib = 1 << 20

// Of a disk, so much stays free that an etcd there can make the next file of its log; of one that is too small for an
// etcd, a twentieth.
func TestTheSpoolLeavesRoomForAnEtcd(t *testing.T) {
	for size, reserve := range map[int64]int64{40 * mib: 2 * mib, 4096 * mib: snapshot.MemberRoom} {
		dir := smallDisk(t, size)
		free, err := disk.Free(dir)
		must(t, err)
		must(t, repository.CheckSpace(dir, free-reserve))
		err = repository.CheckSpace(dir, free-reserve+1)
		if snapshot.ReasonOf(err) != snapshot.ReasonNoSpace {
			t.Fatalf("%d bytes more than %d are allowed: %v", 1, free-reserve, err)
		}
		for _, part := range []string{
			fmt.Sprintf("%d bytes are needed", free-reserve+1), dir, fmt.Sprintf("%d free", free), fmt.Sprintf("%d are left to an etcd", reserve), "--data-dir",
		} {
			wantText(t, "too small", err, part)
		}
	}
}

// The size of a database was asked for before it is read: it may have been defragmented since.
func TestARoomExpectsNothingMoreOfAFileThatHasEnded(t *testing.T) {
	dir := smallDisk(t, 40*mib)
	room, err := repository.NewRoom(dir, 30*mib)
	must(t, err)
	raw, stored := room.Writer(io.Discard, 30*mib), room.Writer(io.Discard, 0)
	chunk := make([]byte, 10*mib)
	for range 2 {
		_, err = raw.Write(chunk)
		must(t, err)
	}
	if _, err = stored.Write(make([]byte, 29*mib)); snapshot.ReasonOf(err) != snapshot.ReasonNoSpace {
		t.Errorf("while 10 MiB are to come: %v", err)
	}
	raw.End()
	_, err = stored.Write(make([]byte, 29*mib))
	must(t, err)
}

// Nobody knows how large a compressed copy becomes. One that fits is written; one that does not ends before the disk is
// full, and before all that is certain to come was read from etcd.
func TestARoomEndsBeforeTheDiskIsFull(t *testing.T) {
	const size, reserve = 40 * mib, 2 * mib
	dir := smallDisk(t, size)
	create := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		must(t, err)
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	room, err := repository.NewRoom(dir, 24*mib)
	must(t, err)
	raw, stored := room.Writer(create("raw"), 24*mib), room.Writer(create("stored"), 0)
	chunk := make([]byte, 256<<10)
	written := 0
	for ; err == nil && written < size; written += len(chunk) {
		if _, err = raw.Write(chunk); err == nil {
			_, err = stored.Write(chunk)
		}
	}
	if snapshot.ReasonOf(err) != snapshot.ReasonNoSpace || !strings.Contains(err.Error(), "more bytes are needed") {
		t.Fatalf("after %d bytes: %v", written, err)
	}
	// 24 MiB of the database and 14 MiB of the copy are all that fits, so the end is certain once the copy has so many.
	if written < 13*mib || written > 15*mib {
		t.Errorf("it ended after %d bytes of the database", written)
	}

	dir = smallDisk(t, size)
	if room, err = repository.NewRoom(dir, 24*mib); err != nil {
		t.Fatal(err)
	}
	raw, stored = room.Writer(create("raw"), 24*mib), room.Writer(create("stored"), 0)
	for i := range 24 * 4 {
		_, err = raw.Write(chunk)
		must(t, err)
		if i < 13*4 {
			_, err = stored.Write(chunk)
			must(t, err)
		}
	}
	if free, err := disk.Free(dir); err != nil || free < reserve-mib {
		t.Errorf("%d bytes are free, %v", free, err)
	}
	raw.End()
	if _, err := stored.Write(make([]byte, 2*mib)); snapshot.ReasonOf(err) != snapshot.ReasonNoSpace {
		t.Errorf("more than fits: %v", err)
	}
	if _, err := repository.NewRoom(dir, 24*mib); snapshot.ReasonOf(err) != snapshot.ReasonNoSpace {
		t.Errorf("a second one beside it: %v", err)
	}
}
