package database_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/testenv"
)

// etcd is a member, in a process of its own, with a client.
type etcd struct {
	client   *clientv3.Client
	endpoint string
}

// startEtcd starts a member that has noted which version its storage has.
func startEtcd(t *testing.T) *etcd {
	t.Helper()
	c := testenv.StartCluster(t, 1)
	c.Eventually(t, "etcd notes the version of its storage", func(context.Context) error {
		if c.Status(t, 0).StorageVersion == "" {
			return errors.New("it has not")
		}
		return nil
	})
	return &etcd{client: c.Client(t), endpoint: c.Endpoints()[0]}
}

// fill puts, overwrites and deletes keys, in transactions and with leases.
func (e *etcd) fill(t *testing.T) {
	t.Helper()
	lease, err := e.client.Grant(t.Context(), 3600)
	must(t, err)
	short, err := e.client.Grant(t.Context(), 3600)
	must(t, err)
	for i := range 300 {
		key := fmt.Sprintf("/registry/pods/%d", i%120)
		_, err := e.client.Put(t.Context(), key, fmt.Sprint(i, "value"), clientv3.WithLease(lease.ID))
		must(t, err)
		if i%7 == 0 {
			_, err = e.client.Delete(t.Context(), fmt.Sprintf("/registry/pods/%d", (i*5)%120))
			must(t, err)
		}
	}
	_, err = e.client.Put(t.Context(), "/registry/leased", "x", clientv3.WithLease(short.ID))
	must(t, err)
	_, err = e.client.Txn(t.Context()).Then(
		clientv3.OpPut("a", "1"), clientv3.OpPut("b", "2"),
		clientv3.OpDelete("/registry/pods/1", clientv3.WithPrefix())).Commit()
	must(t, err)
	_, err = e.client.Put(t.Context(), "large", string(make([]byte, 1<<20)))
	must(t, err)
	_, err = e.client.Revoke(t.Context(), short.ID)
	must(t, err)
	_, err = e.client.RoleAdd(t.Context(), "reader")
	must(t, err)
	_, err = e.client.UserAdd(t.Context(), "root", "secret")
	must(t, err)
}

func (e *etcd) count(t *testing.T) int64 {
	t.Helper()
	all, err := e.client.Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
	must(t, err)
	return all.Count
}

func (e *etcd) compact(t *testing.T) {
	t.Helper()
	all, err := e.client.Get(t.Context(), "a")
	must(t, err)
	_, err = e.client.Compact(t.Context(), all.Header.Revision-3, clientv3.WithCompactPhysical())
	must(t, err)
}

func (e *etcd) defragment(t *testing.T) {
	t.Helper()
	_, err := e.client.Defragment(t.Context(), e.endpoint)
	must(t, err)
}

// snapshot stores the stream of etcd's Snapshot RPC and returns the path.
func (e *etcd) snapshot(t *testing.T) string {
	t.Helper()
	stream, err := e.client.SnapshotWithVersion(t.Context())
	must(t, err)
	defer func() { _ = stream.Snapshot.Close() }()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	f, err := os.Create(path)
	must(t, err)
	_, err = io.Copy(f, stream.Snapshot)
	must(t, err)
	must(t, f.Close())
	return path
}
