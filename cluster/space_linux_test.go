package cluster_test

import (
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/snapshot"
)

// table is how many bytes the inspection writes beside a small database.
const table = 64 << 10

// smallSpool gives the cluster a spool on a file system of so many bytes, in memory. A twentieth of it stays free.
func smallSpool(t *testing.T, size int) func(*cluster.Config) {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("a file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return func(c *cluster.Config) { c.SpoolDir = dir }
}

// gives makes etcd send so many bytes that cannot be compressed, and nothing more until the stream is closed. It returns
// how many of them were read.
func (f *fixture) gives(size int) (read *int) {
	read = new(int)
	f.source.open = func(s *cluster.Stream) (*cluster.Stream, error) {
		changed := *s
		bytes := io.LimitReader(rand.Reader, int64(size))
		stream := &closing{ReadCloser: s.ReadCloser, closed: make(chan struct{})}
		changed.Size = int64(size)
		changed.ReadCloser = reading{stream, func(p []byte) (int, error) {
			n, err := bytes.Read(p)
			if *read += n; err != nil {
				<-stream.closed
				return n, io.ErrClosedPipe
			}
			return n, nil
		}}
		return &changed, nil
	}
	return read
}

// A compressed copy is mostly a quarter of the database. Whether there is room for this one shows while it is made: a
// save that fits is not refused, and one that does not ends before the disk is full. etcd may live there.
func TestASaveLeavesRoomOnTheDiskOfTheSpool(t *testing.T) {
	const mib = 1 << 20
	f := newFixture(t)
	f.Cluster = f.replica(t, smallSpool(t, 40*mib))
	f.gives(30 * mib)
	_, err := f.Save(t.Context(), cluster.SaveRequest{})
	if snapshot.ReasonOf(err) != snapshot.ReasonNoSpace || !strings.Contains(err.Error(), "more bytes are needed") ||
		!strings.Contains(err.Error(), "an etcd that may live on the same disk") || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a copy that does not fit: %v", err)
	}

	size := len(f.etcdctl(t))
	f.source.open = nil
	f.Cluster = f.replica(t, smallSpool(t, size+table+size/2))
	f.mustSave(t)

	// Encrypted and not compressed, the copy is as large as the database. That is known before etcd is read.
	key, _ := keyPair(t)
	f.Cluster = f.replica(t, smallSpool(t, 40*mib), func(c *cluster.Config) {
		c.Compression, c.Recipients = snapshot.CompressionNone, recipients(t, key)
	})
	read := f.gives(20 * mib)
	_, err = f.Save(t.Context(), cluster.SaveRequest{})
	if snapshot.ReasonOf(err) != snapshot.ReasonNoSpace || !strings.Contains(err.Error(), fmt.Sprint(40*mib, " bytes are needed")) || *read > 0 {
		t.Errorf("a copy that cannot fit: %d bytes were read, %v", *read, err)
	}
}

// What no backend takes is kept beside the spool, where there is room for it.
func TestNothingIsKeptWhereThereIsNoRoomForIt(t *testing.T) {
	f, _ := keeper(t)
	size := len(f.etcdctl(t))
	f.Cluster = f.replica(t, smallSpool(t, size+table+size/4), func(c *cluster.Config) { c.Compression = snapshot.CompressionNone })
	if _, err := f.Save(t.Context(), cluster.SaveRequest{}); snapshot.ReasonOf(err) == snapshot.ReasonNoSpace || err == nil {
		t.Errorf("the save: %v", err)
	}
	if held := f.held(t); len(held) > 0 {
		t.Errorf("%q is kept", held)
	}
	f.Cluster = f.replica(t, smallSpool(t, size*3), func(c *cluster.Config) { c.Compression = snapshot.CompressionNone })
	if _, err := f.Save(t.Context(), cluster.SaveRequest{}); err == nil || len(f.held(t)) != 1 {
		t.Errorf("with more room, %q is kept, %v", f.held(t), err)
	}
}
