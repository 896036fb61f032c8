package etcd

import (
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// An etcd's version becomes part of records and manifests, so that its text must be safe.
func TestAVersionThatIsNoneIsCut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1<<20)
	m := &member{status: &etcdserverpb.StatusResponse{
		Header: &etcdserverpb.ResponseHeader{}, Version: "3.7.3", StorageVersion: "x" + long,
	}}
	got := m.describe()
	if got.Version != "3.7.3" || got.StorageVersion == "" || len(got.StorageVersion) > maxVersion ||
		!strings.HasPrefix("x"+long, got.StorageVersion) {
		t.Errorf("versions %q and %q", got.Version, got.StorageVersion)
	}
}
