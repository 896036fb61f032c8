package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/internal/inspect"
	"github.com/snapshotd/snapshotd/internal/seal"
	domain "github.com/snapshotd/snapshotd/snapshot"
)

// Options are the options of [Run].
type Options struct {
	Shelves    []*domain.Shelf // in the order in which they are asked; at least one
	Choice     Choice
	Identities seal.Identities // for snapshots that are encrypted

	DataDir string // must not exist, or be empty
	WALDir  string // optional; must not exist, or be empty

	Member        Member
	SkipHashCheck bool                    // checksums are not compared; the pages and keys are read instead
	Progress      func(done, total int64) // optional; bytes of the database that were read
	Building      func()                  // optional; all was read, and the data directory is being made
}

// Member is the etcd member that the data directory is for, with the meaning of etcdutl's flags.
type Member struct {
	Name           string
	InitialCluster string
	ClusterToken   string
	PeerURLs       []string
	RevisionBump   uint64
	MarkCompacted  bool
	MemoryMapSize  uint64 // what etcdutl maps of the database at first; its default when 0
}

// Result is what was restored.
type Result struct {
	Snapshot *domain.Record
	URI      string // of the copy
	Took     time.Duration
	Skipped  []error // copies that were to be taken before it and are damaged or could not be read
}

// Plan returns what [Run] would take, without reading more than manifests.
func Plan(ctx context.Context, o Options) (res Result, err error) {
	if err := checkTargets(o); err != nil {
		return res, err
	}
	res.Skipped, err = choose(ctx, o.Shelves, o.Choice, func(c Candidate) error {
		res.Snapshot, res.URI = c.Record, c.URI()
		return nil
	})
	return res, err
}

// Run restores. Everything is made in a directory beside the data directory and renamed when it is whole and durable: what
// is interrupted leaves no data directory.
func Run(ctx context.Context, o Options) (res Result, err error) {
	begin := time.Now()
	if err := checkTargets(o); err != nil {
		return res, err
	}
	work, done, err := makeWork(o.DataDir)
	if err != nil {
		return res, err
	}
	defer done()
	db := filepath.Join(work, "snapshot.db")
	res.Skipped, err = choose(ctx, o.Shelves, o.Choice, func(c Candidate) error {
		res.Snapshot, res.URI = c.Record, c.URI()
		return fetch(ctx, o, c, db)
	})
	if err != nil {
		return res, err
	}
	fault.Point("restore-fetched")
	if o.Building != nil {
		o.Building()
	}
	if err := build(o, work, db); err != nil {
		return res, err
	}
	res.Took = time.Since(begin)
	return res, nil
}

// checkTargets refuses directories that hold something: nothing is ever overwritten.
func checkTargets(o Options) error {
	for what, dir := range map[string]string{"--data-dir": o.DataDir, "--wal-dir": o.WALDir} {
		if dir == "" {
			continue
		}
		entries, err := os.ReadDir(dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		case len(entries) > 0:
			return fmt.Errorf("%s: %s is not empty, and nothing is overwritten; move it away or name another directory", what, dir)
		}
		if _, err := os.Stat(filepath.Dir(filepath.Clean(dir))); err != nil {
			return fmt.Errorf("%s: %w; make the directory above it first", what, err)
		}
	}
	return nil
}

// workSuffix is between the name of a data directory and what makes a working directory beside it unique.
const workSuffix = ".restoring-"

// makeWork makes a working directory beside a directory that is to be, where a rename is one step, and removes those that
// dead restores have left. Whoever lives holds a lock on his own.
func makeWork(target string) (work string, done func(), err error) {
	target = filepath.Clean(target)
	pattern := "." + filepath.Base(target) + workSuffix
	old, _ := filepath.Glob(filepath.Join(filepath.Dir(target), pattern+"*"))
	for _, dir := range old {
		if f, err := lock(dir); err == nil {
			_ = os.RemoveAll(dir)
			_ = f.Close()
		}
	}
	work, err = os.MkdirTemp(filepath.Dir(target), pattern)
	if err != nil {
		return "", nil, fmt.Errorf("restore: %w", err)
	}
	f, err := lock(work)
	if err != nil {
		return "", nil, fmt.Errorf("restore: lock %s: %w", work, err)
	}
	return work, func() {
		_ = os.RemoveAll(work)
		_ = f.Close()
	}, nil
}

func lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// fetch reads a copy whole into a file. It is good when fetch returns nil: its checksums were right. Of what comes without a
// manifest, and without its checksums, the pages and keys are read: then it is known what it holds.
func fetch(ctx context.Context, o Options, c Candidate, path string) error {
	if err := checkSpace(filepath.Dir(path), max(c.DBSize, c.StoredSize)); err != nil {
		return err
	}
	check := domain.Check{
		Backend: c.shelf.Backend, Key: c.shelf.Prefix + c.DataKey(), Record: c.Record, Identities: o.Identities, Progress: o.Progress,
		SkipHashes: o.SkipHashCheck,
	}
	if err := check.Fetch(ctx, path); err != nil || c.Revision > 0 && !o.SkipHashCheck {
		return err
	}
	found, err := inspect.File(ctx, path, inspect.Options{})
	switch {
	case errors.Is(err, inspect.ErrUnreadable):
		return &domain.Error{
			Reason: domain.ReasonSnapshotUnreadable, Message: "restore " + c.URI(), Err: err,
			Hint: "no etcd can be started on it; take another copy or another snapshot",
		}
	case err != nil:
		return err
	}
	c.Revision, c.TotalKeys, c.Hash, c.StorageVersion = found.Revision, found.TotalKeys, found.Hash, found.StorageVersion
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	c.DBSize = info.Size()
	return nil
}

// checkSpace wants room for the database twice: it is read whole and checked before the data directory is made of it.
func checkSpace(dir string, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("restore: measure the free space of %s: %w", dir, err)
	}
	if free := int64(fs.Bavail) * int64(fs.Bsize); free < 2*size { //nolint:unconvert // on other systems it is
		return &domain.Error{
			Reason: domain.ReasonNoSpace, Message: fmt.Sprintf("restore: the database has %d bytes, room for it twice is needed, and %s has %d free", size, dir, free),
			Hint: "free space there, or restore to another disk",
		}
	}
	return nil
}

// build makes the data directory and puts it into its place.
func build(o Options, work, db string) error {
	data := filepath.Join(work, "data")
	wal := ""
	if o.WALDir != "" {
		dir, done, err := makeWork(o.WALDir)
		if err != nil {
			return err
		}
		defer done()
		wal = dir
	}
	cfg := snapshot.RestoreConfig{
		SnapshotPath: db, OutputDataDir: data, SkipHashCheck: true, // it was compared while it was read
		Name: o.Member.Name, PeerURLs: o.Member.PeerURLs, InitialCluster: o.Member.InitialCluster, InitialClusterToken: o.Member.ClusterToken,
		RevisionBump: o.Member.RevisionBump, MarkCompacted: o.Member.MarkCompacted, InitialMmapSize: mapSize(o.Member.MemoryMapSize),
	}
	if wal != "" {
		cfg.OutputWALDir = filepath.Join(wal, "wal")
	}
	if err := snapshot.NewV3(zap.NewNop()).Restore(cfg); err != nil {
		return fmt.Errorf("restore: make the data directory: %w", err)
	}
	if err := os.Remove(db); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for _, dir := range []string{work, wal} {
		if err := syncTree(dir); dir != "" && err != nil {
			return fmt.Errorf("restore: make it durable: %w", err)
		}
	}
	fault.Point("restore-built")
	if wal != "" {
		if err := place(cfg.OutputWALDir, o.WALDir); err != nil {
			return err
		}
		fault.Point("restore-wal-placed")
	}
	return place(data, o.DataDir)
}

// mapSize is etcd's own default for 0, which the library does not take for it.
func mapSize(size uint64) uint64 { return cmp.Or(size, backend.InitialMmapSize) }

// place renames a directory to where it belongs, in the place of an empty one, and makes that durable.
func place(from, to string) error {
	to = filepath.Clean(to)
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return syncDir(filepath.Dir(to))
}

// syncTree makes everything below a directory durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return syncDir(path)
	})
}

// syncDir makes a directory, or a file, durable.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}

// Commands returns what to run for each member of the initial cluster, as the member itself would be restored: the first
// argument is the program.
func Commands(args []string, m Member) ([][]string, error) {
	var all [][]string
	for part := range strings.SplitSeq(m.InitialCluster, ",") {
		name, url, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--initial-cluster: %q is not NAME=URL", part)
		}
		all = append(all, append(append([]string(nil), args...), "--name", name, "--initial-advertise-peer-urls", url))
	}
	return all, nil
}
