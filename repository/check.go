package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
	"github.com/snapshotd/snapshotd/snapshot"
)

// ErrNotRestorable: the snapshot could not be restored, or the etcd on it did not start or does not work as an etcd
// does.
var ErrNotRestorable = errors.New("the snapshot cannot be restored")

// Drilled is the answer of the restored etcd.
type Drilled struct {
	HashKV          uint32 // etcd's HashKV at HashRevision
	HashRevision    int64  // the snapshot's revision, or the first later one that etcd can be asked for
	CompactRevision int64
	TotalKeys       int64 // live at the snapshot's revision

	Disarmed []string // alarms that kept the restored etcd from writing, as [snapshot.Snapshot.Alarms] has them
}

// Check is the verification of one copy. It is a value and not a method of the repository, because restore and verify
// --from check copies without a catalog and without a cluster.
type Check struct {
	Repository *Repository
	Record     *snapshot.Record
	Level      snapshot.Level
	Identities age.Identities // of an encrypted copy; without them only its stored bytes can be compared
	Dir        string         // with room for the database; not needed at LevelChecksum
	Driller    Driller        // needed at LevelDrill
	Progress   func(done, total int64)

	// SkipHashes makes Fetch compare no checksums of the manifest, nor that at the end of the database, which may be
	// missing. The size of the object, and the checksums that zstd, zip and age have of their own, are still compared.
	SkipHashes bool
}

// Checked describes a good copy.
type Checked struct {
	Decoded   bool // the database in it was looked at
	Revision  int64
	TotalKeys int64
	Hash      uint32
	Alarms    []string // as [snapshot.Snapshot.Alarms] has them
	Drilled
}

// Run checks the copy. An error with ReasonChecksumMismatch or ReasonSnapshotUnreadable says that it is not the
// snapshot that it should be; other errors say nothing of it.
func (c *Check) Run(ctx context.Context) (res Checked, err error) {
	want := c.expected()
	// The checksum of the stored bytes can be compared without a key. The result says that nothing was decoded.
	if want.Encrypted() && c.Identities.Empty() && c.Level == snapshot.LevelChecksum {
		in, err := c.Repository.openStored(ctx, c.key(), want)
		if err != nil {
			return res, err
		}
		return res, c.drain(ctx, in, io.Discard, want.StoredSize, false)
	}
	res.Decoded = true
	if c.Level == snapshot.LevelChecksum {
		in, err := c.Repository.openDecoded(ctx, c.key(), want, NewTrailer(), c.Identities)
		if err != nil {
			return res, err
		}
		return res, c.drain(ctx, in, io.Discard, decodedSize(want), true)
	}
	// Deeper levels need the database in a file: its pages are read in any order.
	work, err := os.MkdirTemp(c.Dir, "verify-")
	if err != nil {
		return res, SpoolError("make a directory in", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	db := filepath.Join(work, "snapshot"+snapshot.DataSuffix)
	if err := c.Fetch(ctx, db); err != nil {
		return res, err
	}
	found, err := c.Inspect(ctx, db, 0)
	if err != nil {
		return res, err
	}
	res.Revision, res.TotalKeys, res.Hash, res.Alarms = found.Revision, found.TotalKeys, found.Hash, found.Alarms
	if c.Level < snapshot.LevelDrill {
		return res, nil
	}
	return res, c.drill(ctx, db, &res)
}

// Fetch reads the whole copy into a new file. It is good when Fetch returns nil: its checksums were right, unless they
// are skipped.
func (c *Check) Fetch(ctx context.Context, path string) error {
	want, trailer := c.expected(), NewTrailer()
	if c.SkipHashes {
		want.SHA256, want.StoredSHA256, trailer = "", "", nil
	}
	in, err := c.Repository.openDecoded(ctx, c.key(), want, trailer, c.Identities)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		_ = in.Close()
		return SpoolError("create", err)
	}
	err = c.drain(ctx, in, out, decodedSize(want), true)
	// A disk that is full may say so only now.
	if cerr := out.Close(); err == nil && cerr != nil {
		err = SpoolError("write", cerr)
	}
	return err
}

// key returns the key of the copy.
func (c *Check) key() string { return c.Repository.dataKey(c.Record) }

// decodedSize is how many bytes come out of a copy: the database and etcd's checksum; 0 when it is not known.
func decodedSize(s *snapshot.Snapshot) int64 {
	if s.DBSize == 0 {
		return 0
	}
	return min(s.DBSize, snapshot.MaxSize) + ChecksumSize
}

// expected is the snapshot with which the copy is compared. A file of another program is compared with its own checksum
// alone, because its size may have been read from a listing.
func (c *Check) expected() *snapshot.Snapshot {
	s := c.Record.Clone()
	if s.Trigger == snapshot.TriggerAdopted {
		s.StoredSize = 0
	}
	return s
}

// drain copies the whole reader, and closes it. Only a reader that was read to its end has compared its checksums. A
// context that has ended meanwhile is an error even then, because the caller does not wait for a verdict any more.
func (c *Check) drain(ctx context.Context, in io.ReadCloser, out io.Writer, total int64, decoded bool) error {
	defer func() { _ = in.Close() }()
	var w io.Writer = &checkMeter{w: out, total: total, report: c.Progress}
	if decoded {
		w = c.bounded(w)
	}
	_, err := io.Copy(w, in)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// checkMeter writes and reports how much. An error of the writer becomes one of the spool, because every other error
// comes from the backend or the copy.
type checkMeter struct {
	w           io.Writer
	done, total int64
	report      func(done, total int64)
}

// Write implements [io.Writer].
func (m *checkMeter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.done += int64(n)
	if m.report != nil {
		m.report(m.done, m.total)
	}
	if err != nil {
		err = SpoolError("write", err)
	}
	return n, err
}

// Inspect reads every page and key of a database that was fetched, and compares the result with the manifest unless
// hashes are skipped. Nothing else may open the database before: bbolt and etcd trust its content, and some of it ends
// the process. An error of the file system says nothing of the copy, and is returned as it is.
//
// With a revision, the result has the past at that one, too.
func (c *Check) Inspect(ctx context.Context, db string, revision int64) (database.Result, error) {
	found, err := database.File(ctx, db, database.Options{Revision: revision})
	switch {
	case errors.Is(err, database.ErrUnreadable):
		return found, c.unreadable(err)
	case err != nil:
		return found, err
	}
	s := c.Record
	known := s.Trigger != snapshot.TriggerAdopted || s.Revision > 0 // other programs' have no manifest to compare with
	if known && !c.SkipHashes && (found.Revision != s.Revision || found.TotalKeys != s.TotalKeys || found.Hash != s.Hash) {
		return found, c.unreadable(fmt.Errorf(
			"it has revision %d, %d keys and hash %08x, and its manifest says %d, %d and %08x",
			found.Revision, found.TotalKeys, found.Hash, s.Revision, s.TotalKeys, s.Hash))
	}
	return found, nil
}

// drill restores the database, and compares the answer of the restored etcd with the inspection.
func (c *Check) drill(ctx context.Context, db string, res *Checked) (err error) {
	res.Drilled, err = c.Driller.Drill(ctx, db, res.Revision)
	// Only the number of keys is compared. HashKV has no counterpart in the inspection, which reads the file without an
	// etcd; the caller compares it with the live cluster.
	switch restored := res.Drilled.TotalKeys; {
	case errors.Is(err, ErrNotRestorable):
		return c.unreadable(err)
	case err != nil:
		return err
	case restored != res.TotalKeys:
		return c.unreadable(fmt.Errorf("the etcd that was restored has %d keys at revision %d, and there should be %d",
			restored, res.Revision, res.TotalKeys))
	}
	return nil
}

// unreadable is the verdict that the bytes are right and do not hold a snapshot that could be restored.
func (c *Check) unreadable(cause error) error {
	r := c.Repository
	return snapshot.ReasonSnapshotUnreadable.New("read the database of %s", r.info.URI(c.key())).On(r.info.Name).
		Because(cause).
		Advise("no etcd can be relied on that starts from this copy; take another copy or another snapshot, and save anew")
}
