// Package embedded runs etcd members inside the test's process. It is apart from the rest of testenv because etcd's
// server is large: a test that needs none is linked in half of the time.
package embedded

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

// minBcrypt is the lowest cost of a password's hash: the race detector makes the usual one take longer than a login
// may.
const minBcrypt = 4

// SmallLog is for the TestMain of a package whose tests only talk to members. Each makes two files for its log at once,
// of 64 MB, which takes longer in memory than most tests. Tests of restores and drills do without it: those of the
// program are in the same process, and would not need the room that they need elsewhere.
func SmallLog() { wal.SegmentSizeBytes = 1 << 20 }

// Etcd is a single member inside the test's process. It does not fsync.
type Etcd struct {
	server *member.Server
}

// StartEtcd starts a single member that ends with the test. Its database says already which version it has: etcd notes
// that when it serves already, and a snapshot of before does not have it.
func StartEtcd(tb testing.TB, edit ...func(*member.Config)) *Etcd {
	tb.Helper()
	cfg := member.Config{Dir: tb.TempDir(), NoFsync: true, Bcrypt: minBcrypt}
	for _, e := range edit {
		e(&cfg)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), testenv.StartTimeout)
	defer cancel()
	server, err := member.Start(ctx, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	e := &Etcd{server}
	tb.Cleanup(func() { e.Close(tb) })
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for server.Member().StorageVersion() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatal("etcd does not note the version of its storage")
		}
	}
	return e
}

// Endpoints returns the client URLs.
func (e *Etcd) Endpoints() []string { return e.server.Endpoints() }

// Client returns a client that ends with the test.
func (e *Etcd) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	return testenv.NewClient(tb, e.Endpoints())
}

// Close stops the member before the test ends.
func (e *Etcd) Close(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), testenv.StartTimeout)
	defer cancel()
	if err := e.server.Close(ctx); err != nil {
		tb.Error(err)
	}
}
