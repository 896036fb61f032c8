package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/internal/fault"
	"github.com/snapshotd/snapshotd/journal/plan"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Options are the options of [Run].
type Options struct {
	Repositories []*repository.Repository // in the order in which they are tried; at least one
	Choice       Choice
	Identities   age.Identities // for snapshots that are encrypted

	DataDir string // must not exist, or be empty
	WALDir  string // optional; must not exist, or be empty; may be in DataDir

	Member        Member
	EndedLeaseTTL time.Duration           // of leases of a past revision that the snapshot has no more; 0 leaves them out
	Disarm        bool                    // the alarms in the snapshot are left out
	SkipHashCheck bool                    // checksums are not compared; the pages and keys are still read
	Progress      func(done, total int64) // optional; in bytes of the database
	Building      func()                  // optional; called when all is read and the data directory is made
}

// Member is the etcd member of the data directory. The fields mean the same as etcdutl's flags.
type Member struct {
	Name           string
	InitialCluster string
	ClusterToken   string
	PeerURLs       []string
	RevisionBump   uint64
	MarkCompacted  bool
	MemoryMapSize  uint64 // bytes of the database that etcdutl maps at first; its default when 0
}

// Result is the result of [Run] and [Plan].
type Result struct {
	Snapshot *snapshot.Record
	URI      string // of the copy
	Took     time.Duration
	Skipped  []error  // copies that were tried first, and are damaged or could not be read
	Past     *Past    // nil when no past revision was asked for, or the snapshot is taken as it is
	Bracket  *Bracket // of the time that was asked for, when it was looked for

	// Moment is the time that was asked for, when the journal shows its revision, and a snapshot is taken back to that.
	Moment *plan.Moment

	Replayed *Replayed // nil when the journal was not used
	Later    int64     // revision to which the journal goes on behind the latest snapshot, unused; 0 when it does not
}

// Ahead reports whether the snapshot claims to be from the future.
func (r *Result) Ahead(now time.Time) bool {
	return snapshot.Ahead(r.Snapshot.CreateTime, now)
}

// Plan returns what [Run] would restore. It makes all checks of the run but one: of the data it reads no more than the
// beginning, which shows whether it can be read and decrypted. A past revision needs the data: then the snapshot is
// read into a file as in the run, and the file is removed.
func Plan(ctx context.Context, o Options) (res Result, err error) {
	if err := checkTargets(o); err != nil {
		return res, err
	}
	l, err := newLookback(ctx, o)
	if err != nil {
		return res, err
	}
	if l.reads() {
		work, done, err := makeWork(o.DataDir)
		if err != nil {
			return res, err
		}
		defer done()
		l.file = filepath.Join(work, "snapshot.db")
		return l.run(ctx)
	}
	skipped := l.res.Skipped
	res.Skipped, err = l.choose(ctx, o.Choice, func(c candidate) error {
		res.Snapshot, res.URI = c.Record, c.URI()
		if err := roomFor(c, workParent(o.DataDir)); err != nil {
			return err
		}
		size, err := readable(ctx, c, o.Identities)
		if err == nil && c.DBSize == 0 { // of another program's archive, only its content says how large it is
			err = checkSpace("restore", workParent(o.DataDir), size, Room(size))
		}
		return err
	})
	res.Skipped = append(skipped, res.Skipped...)
	if err == nil {
		res.Later = l.later(ctx, res.Snapshot)
	}
	if err == nil && !o.Choice.At.IsZero() {
		if b, err := l.bracket(ctx, o.Choice, described); err == nil { // it is for information only
			res.Bracket = b
		}
	}
	return res, err
}

// readable opens a copy and reads its first bytes. It returns the size that the database says it has; 0 when they do
// not tell.
func readable(ctx context.Context, c candidate, identities age.Identities) (size int64, err error) {
	in, err := c.repo.OpenCopy(ctx, c.Record, identities)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }()
	head := make([]byte, database.HeadSize)
	if _, err := io.ReadFull(in, head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	size, _ = database.DeclaredSize(head)
	return size, nil
}

// roomFor returns an error when the disk of a directory has no room for what a restore of the copy needs.
func roomFor(c candidate, dir string) error {
	size := max(c.DBSize, c.StoredSize)
	return checkSpace("restore", dir, size, Room(size))
}

// Run restores. Everything is made in a work directory, which is beside the data directory, or in it when that exists
// and is empty. It is renamed when it is whole and durable: an interrupted restore leaves no member.
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
	res, err = prepare(ctx, o, db)
	if err != nil {
		return res, err
	}
	fault.Point("restore-fetched")
	if o.Building != nil {
		o.Building()
	}
	if err := build(o, res.Past, work, db); err != nil {
		return res, err
	}
	res.Took = time.Since(begin)
	return res, nil
}

// prepare chooses a snapshot and reads it into a file, which is then at the revision that is restored.
func prepare(ctx context.Context, o Options, db string) (res Result, err error) {
	l, err := newLookback(ctx, o)
	if err != nil {
		return res, err
	}
	l.file = db
	if l.reads() {
		return l.run(ctx)
	}
	skipped := l.res.Skipped
	res.Skipped, err = l.choose(ctx, o.Choice, func(c candidate) error {
		res.Snapshot, res.URI = c.Record, c.URI()
		return fetch(ctx, o, c, db)
	})
	res.Skipped = append(skipped, res.Skipped...)
	if err == nil {
		res.Later = l.later(ctx, res.Snapshot)
	}
	return res, err
}

// fetch reads a copy into a file. When it returns nil, the checksums are right unless they are skipped, and all pages
// and keys were read: whoever can write to the backend can make a manifest for any database, and some would end this
// process once bbolt or etcd sees them.
func fetch(ctx context.Context, o Options, c candidate, path string) error {
	if err := fetchBytes(ctx, o, c, path); err != nil {
		return err
	}
	// The disk takes the bytes while they are looked at: the member needs them durable, and changes few of them. An error
	// must not be forgotten, because the sync at the end would not report it again.
	written := make(chan error, 1)
	go func() { written <- disk.Sync(path) }()
	_, err := inspect(ctx, o, c, path, 0)
	if werr := <-written; err == nil && werr != nil {
		err = fmt.Errorf("restore: make it durable: %w", werr)
	}
	return err
}

// fetchBytes reads a copy into a file, and compares its checksums unless they are skipped.
func fetchBytes(ctx context.Context, o Options, c candidate, path string) error {
	if err := roomFor(c, filepath.Dir(path)); err != nil {
		return err
	}
	check := repository.Check{
		Repository: c.repo, Record: c.Record, Identities: o.Identities, Progress: o.Progress,
		SkipHashes: o.SkipHashCheck,
	}
	return check.Fetch(ctx, path)
}

// inspect reads every page and key of a copy in a file, and notes in the record what they show.
func inspect(ctx context.Context, o Options, c candidate, path string, revision int64) (database.Result, error) {
	check := repository.Check{Repository: c.repo, Record: c.Record, SkipHashes: o.SkipHashCheck}
	found, err := check.Inspect(ctx, path, revision)
	if err != nil {
		return found, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return found, fmt.Errorf("restore: %w", err)
	}
	c.Revision, c.TotalKeys, c.Hash, c.StorageVersion = found.Revision, found.TotalKeys, found.Hash, found.StorageVersion
	c.Alarms, c.OldestRevision, c.DBSize = found.Alarms, found.OldestRevision, info.Size()
	if c.DBSize%512 == repository.ChecksumSize { // etcd's checksum follows the database, which is a whole number of pages
		c.DBSize -= repository.ChecksumSize
	}
	return found, nil
}

// Room returns how many bytes a data directory needs for a database of a size, so that an etcd can start on it.
func Room(size int64) int64 { return min(size, snapshot.MaxSize) + snapshot.MemberRoom }

// checkSpace returns an error when a disk has less room than an operation on a database needs.
func checkSpace(op, dir string, size, need int64) error {
	free, err := disk.Free(dir)
	if err != nil {
		return fmt.Errorf("%s: measure the free space of %s: %w", op, dir, err)
	}
	if free < need {
		return snapshot.ReasonNoSpace.New("%s: %d bytes are needed for a database of %d, and %s has %d free",
			op, need, size, dir, free).Final().
			Advise("free space there, or name a directory on another disk")
	}
	return nil
}
