package testenv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/snapshotd/snapshotd/internal/disk"
)

// Ports below those that Linux gives to connections by itself: one of those could be taken before a server listens on
// it.
const (
	firstPort = 10_000
	ports     = 20_000
)

// freeURL returns the URL of a port on which nothing listens, and which no other test takes until this one has ended:
// packages are tested side by side, and a server may be stopped for a while. Who has the lock of a file has the port.
func freeURL(tb testing.TB) string {
	tb.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		tb.Fatal(err)
	}
	dir := filepath.Join(cache, "snapshotd-test", "ports")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	for range 100 {
		port := strconv.Itoa(firstPort + rand.IntN(ports))
		lock, err := os.OpenFile(filepath.Join(dir, port), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			tb.Fatal(err)
		}
		if disk.Lock(lock) == nil {
			if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
				_ = l.Close()
				tb.Cleanup(func() { _ = lock.Close() })
				return fmt.Sprint("http://127.0.0.1:", port)
			}
		}
		_ = lock.Close()
	}
	tb.Fatal("no port is free for a server")
	return ""
}
