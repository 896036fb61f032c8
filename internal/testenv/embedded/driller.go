package embedded

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	etcdutl "go.etcd.io/etcd/etcdutl/v3/snapshot"

	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/internal/etcd/member"
	"github.com/snapshotd/snapshotd/repository"
)

// Driller drills in the test's process.
type Driller struct {
	TB    testing.TB
	Count int // of drills
}

// Drill implements [repository.Driller].
func (d *Driller) Drill(_ context.Context, file string, revision int64) (repository.Drilled, error) {
	d.Count++
	dir := d.TB.TempDir()
	cfg := etcdutl.RestoreConfig{
		SnapshotPath: file, OutputDataDir: filepath.Join(dir, "data"), Name: "default",
		PeerURLs:       []string{"http://localhost:2380"},
		InitialCluster: "default=http://localhost:2380", InitialClusterToken: "token",
	}
	if err := datadir.Make(cfg); err != nil {
		return repository.Drilled{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	m := d.at(cfg.OutputDataDir, revision) //nolint:contextcheck // the test's own context ends it
	return repository.Drilled{
		HashKV: m.Hash.Hash, HashRevision: m.Hash.Revision, CompactRevision: m.Hash.CompactRevision,
		TotalKeys: int64(len(m.Keys)),
	}, nil
}

// at returns the state that etcd shows at a revision when it starts on a data directory.
func (d *Driller) at(dir string, revision int64) Moment {
	e := StartEtcd(d.TB, func(c *member.Config) { c.Dir = dir })
	defer e.Close(d.TB)
	return e.At(d.TB, revision)
}
