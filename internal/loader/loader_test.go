package loader_test

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/loader"
	"github.com/snapshotd/snapshotd/internal/testenv"
)

func TestLoadReachesTheSize(t *testing.T) {
	client := testenv.StartCluster(t, 1).Client(t)
	const size = 32 << 20
	var last int64
	err := loader.Load(t.Context(), client, loader.Config{Bytes: size, Seed: 7, Progress: func(done, total int64) {
		if done < last || total != size {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		last = done
	}})
	if err != nil {
		t.Fatal(err)
	}
	if last < size || last > size*3/2 {
		t.Errorf("the database has %d bytes, want %d and little more", last, size)
	}
	all, err := client.Get(t.Context(), "/registry/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	var updated, small int
	for _, kv := range all.Kvs {
		if kv.Version > 1 {
			updated++
		}
		if len(kv.Value) < 4<<10 {
			small++
		}
		if len(kv.Value) < 300 || len(kv.Value) > 20<<10 || strings.Count(string(kv.Key), "/") != 4 {
			t.Fatalf("%s has %d bytes", kv.Key, len(kv.Value))
		}
	}
	if n := len(all.Kvs); n < 1000 || updated < n/10 || small < n/2 {
		t.Errorf("of %d objects %d were updated and %d are small", n, updated, small)
	}
	if _, err := client.Get(t.Context(), "/registry/", clientv3.WithRev(2)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("reading an old revision: %v, want it compacted", err)
	}
}

func TestLoadSaysThatTheQuotaIsTooSmall(t *testing.T) {
	client := testenv.StartCluster(t, 1, testenv.Quota(4<<20)).Client(t)
	err := loader.Load(t.Context(), client, loader.Config{Bytes: 64 << 20})
	if !errors.Is(err, rpctypes.ErrNoSpace) || !strings.Contains(err.Error(), "--quota-backend-bytes") {
		t.Errorf("error %v, want one that names the quota", err)
	}
}
