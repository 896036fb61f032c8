package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Options are the options of [Run].
type Options struct {
	Shelves    []*snapshot.Shelf // in the order in which they are asked; at least one
	Choice     Choice
	Identities age.Identities // for snapshots that are encrypted

	DataDir string // must not exist, or be empty
	WALDir  string // optional; must not exist, or be empty; may be in DataDir

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
	Snapshot *snapshot.Record
	URI      string // of the copy
	Took     time.Duration
	Skipped  []error // copies that were to be taken before it and are damaged or could not be read
}

// Ahead reports whether the snapshot says that it was taken in the future.
func (r *Result) Ahead(now time.Time) bool {
	return r.Snapshot.CreateTime.Sub(now) > snapshot.ClockTolerance
}

// Plan returns what [Run] would take, without reading more than manifests.
func Plan(ctx context.Context, o Options) (res Result, err error) {
	if err := checkTargets(o); err != nil {
		return res, err
	}
	res.Skipped, err = choose(ctx, o.Shelves, o.Choice, func(c candidate) error {
		res.Snapshot, res.URI = c.Record, c.URI()
		return nil
	})
	return res, err
}

// Run restores. Everything is made in a directory beside the data directory, or in it when it is there and empty, and renamed
// when it is whole and durable: what is interrupted leaves no member.
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
	res.Skipped, err = choose(ctx, o.Shelves, o.Choice, func(c candidate) error {
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

// fetch reads a copy whole into a file. It is good when fetch returns nil: its checksums were right. Of what comes without a
// manifest, and without its checksums, the pages and keys are read: then it is known what it holds.
func fetch(ctx context.Context, o Options, c candidate, path string) error {
	size := max(c.DBSize, c.StoredSize)
	if err := checkSpace("restore", filepath.Dir(path), size, Room(size)); err != nil {
		return err
	}
	check := snapshot.Check{
		Backend: c.shelf.Backend, Key: c.shelf.Prefix + c.DataKey(), Record: c.Record, Identities: o.Identities, Progress: o.Progress,
		SkipHashes: o.SkipHashCheck,
	}
	if err := check.Fetch(ctx, path); err != nil || c.Revision > 0 && !o.SkipHashCheck {
		return err
	}
	found, err := database.File(ctx, path, database.Options{})
	switch {
	case errors.Is(err, database.ErrUnreadable):
		return &snapshot.Error{
			Reason: snapshot.ReasonSnapshotUnreadable, Message: "restore " + c.URI(), Err: err,
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

// Room returns how many bytes a data directory with a database of so many takes, for an etcd to start on it.
func Room(size int64) int64 { return size + snapshot.MemberRoom }

// checkSpace wants room for a database and what is made besides.
func checkSpace(what, dir string, size, need int64) error {
	free, err := disk.Free(dir)
	if err != nil {
		return fmt.Errorf("%s: measure the free space of %s: %w", what, dir, err)
	}
	if free < need {
		return &snapshot.Error{
			Reason: snapshot.ReasonNoSpace, Message: fmt.Sprintf("%s: the database has %d bytes, %d are needed with what is made besides, and %s has %d free", what, size, need, dir, free),
			Hint: "free space there, or name a directory on another disk",
		}
	}
	return nil
}
