package restore

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/storage/backend"

	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/internal/etcd/datadir"
	"github.com/snapshotd/snapshotd/internal/fault"
)

// build makes the data directory and moves it to its place.
func build(o Options, past *Past, work, db string) error {
	data := filepath.Join(work, "data")
	cfg := snapshot.RestoreConfig{
		SnapshotPath: db, OutputDataDir: data,
		Name: o.Member.Name, PeerURLs: o.Member.PeerURLs,
		InitialCluster: o.Member.InitialCluster, InitialClusterToken: o.Member.ClusterToken,
		RevisionBump: o.Member.RevisionBump, MarkCompacted: o.Member.MarkCompacted,
		InitialMmapSize: mapSize(o.Member.MemoryMapSize),
	}
	made := []string{work}
	apart := false // the WAL's directory is outside the data directory
	if o.WALDir != "" {
		inData, err := below(o.DataDir, o.WALDir)
		if err != nil {
			return err
		}
		cfg.OutputWALDir = filepath.Join(data, inData)
		if apart = inData == ""; apart {
			wal, done, err := makeWork(o.WALDir)
			if err != nil {
				return err
			}
			defer done()
			made, cfg.OutputWALDir = append(made, wal), filepath.Join(wal, "wal")
		}
	}
	if err := makeData(o, cfg, past); err != nil {
		return fmt.Errorf("restore: make the data directory: %w", err)
	}
	for _, dir := range made {
		if err := syncTree(dir); err != nil {
			return fmt.Errorf("restore: make it durable: %w", err)
		}
	}
	fault.Point("restore-built")
	if apart {
		if err := place("--wal-dir", cfg.OutputWALDir, o.WALDir); err != nil {
			return err
		}
		fault.Point("restore-wal-placed")
	}
	return place("--data-dir", data, o.DataDir)
}

// makeData makes the data directory of a snapshot, at one of its revisions. ttl is that of ended leases for which the
// snapshot shows none.
func makeData(o Options, cfg snapshot.RestoreConfig, past *Past) error {
	var emptied []string
	if o.Disarm {
		emptied = []string{datadir.Alarms}
	}
	if past.Whole() {
		return datadir.Make(cfg, emptied...)
	}
	if past.replayed != nil {
		return datadir.MakeAt(cfg, *past.replayed, emptied...)
	}
	var ended []datadir.Lease
	for _, l := range past.Ended {
		if seconds := cmp.Or(min(l.TTL, maxLeaseTTL), int64(o.EndedLeaseTTL/time.Second)); seconds > 0 {
			ended = append(ended, datadir.Lease{ID: l.ID, TTL: seconds})
		}
	}
	return datadir.MakeAt(cfg, datadir.Past{Revision: past.Revision, Leases: past.Leases, Ended: ended}, emptied...)
}

// maxLeaseTTL is the longest time to live in seconds that etcd takes.
const maxLeaseTTL = 9_000_000_000

// mapSize returns etcd's own default for 0: the library does not know 0.
func mapSize(size uint64) uint64 { return cmp.Or(size, backend.InitialMmapSize) }

// place moves a directory to its place, durably. An empty directory that is there already stays, with its owner,
// because it may be a mount point: the content is moved into it. etcd's "member" is moved last, because without it
// there is no data directory.
func place(what, from, to string) error {
	if err := checkTarget(what, to); err != nil { // it may have changed during the restore
		return err
	}
	to = filepath.Clean(to)
	if _, err := os.Stat(to); err != nil {
		if err := os.Rename(from, to); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		return disk.Sync(filepath.Dir(to))
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	isMember := func(e os.DirEntry) int {
		if e.Name() == "member" {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(entries, func(a, b os.DirEntry) int { return isMember(a) - isMember(b) })
	for _, e := range entries {
		if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	return disk.Sync(to)
}

// syncTree makes everything below a directory durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return disk.Sync(path)
	})
}
