package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/etcd/database"
)

// Level says how far a copy is verified. Each does what those before it do.
type Level int

// The levels; their numbers are those of the API.
const (
	LevelUnspecified Level = iota
	LevelChecksum          // every byte is read back and compared with its checksums
	LevelStructure         // every page and key is read: revision, number of keys and hash are those of the manifest
	LevelDrill             // it is restored into a throw-away etcd, which is started, asked, and written to
)

var levelNames = []string{"UNSPECIFIED", "CHECKSUM", "STRUCTURE", "DRILL"}

// String returns the name that people see: CHECKSUM.
func (l Level) String() string { return nameOf(levelNames, int(l)) }

// MemberRoom is how many bytes an etcd needs on the disk besides its database, to be restored and to start: 64 MB are for the
// first file of its log. It makes a second one when it can, and can do without.
const MemberRoom = 65_000_000

// Room returns how many bytes a verification needs on the disk for a database of so many.
func (l Level) Room(size int64) int64 {
	switch {
	case l <= LevelChecksum:
		return 0
	case l == LevelDrill:
		return size + MemberRoom
	}
	return size
}

// A Driller restores a database into a throw-away etcd, starts it, asks it, writes a key and reads it back, and removes all
// of it.
type Driller interface {
	// Drill takes the file that etcd sent, of which it makes the throw-away etcd, and the snapshot's revision. An error that
	// wraps [ErrNotRestorable] is the snapshot's fault; others say nothing of it.
	Drill(ctx context.Context, file string, revision int64) (Drilled, error)
}

// ErrNotRestorable: the snapshot could not be restored, or the etcd on it did not start or not do what an etcd does.
var ErrNotRestorable = errors.New("the snapshot cannot be restored")

// Drilled is what the restored etcd said.
type Drilled struct {
	HashKV          uint32 // etcd's HashKV at the snapshot's revision
	CompactRevision int64
	TotalKeys       int64 // live at the snapshot's revision
}

// Check is the verification of one copy.
type Check struct {
	Backend    Backend
	Key        string
	Record     *Record
	Level      Level
	Identities age.Identities // of an encrypted one; without them its bytes are compared as they are stored, and no more is possible
	Dir        string         // with room for the database; not needed at LevelChecksum
	Driller    Driller        // needed at LevelDrill
	Progress   func(done, total int64)

	// SkipHashes makes Fetch compare nothing with sums: not that at the end of the database, which may be missing, and not
	// those of the manifest. The size of the object, and the sums that zstd, zip and age have of their own, are compared all the same.
	SkipHashes bool
}

// Checked is what a check has found of a copy that is as it should be.
type Checked struct {
	Decoded   bool // the database in it was looked at
	Revision  int64
	TotalKeys int64
	Hash      uint32
	Drilled
}

// Run checks the copy. An [Error] with ReasonChecksumMismatch or ReasonSnapshotUnreadable says that it is not what it should
// be; others say nothing of it.
func (c *Check) Run(ctx context.Context) (res Checked, err error) {
	want := c.expected()
	if want.Sealed() && c.Identities.Empty() && c.Level == LevelChecksum {
		in, err := OpenStored(ctx, c.Backend, c.Key, want)
		return res, c.drain(ctx, in, err, io.Discard, want.StoredSize)
	}
	res.Decoded = true
	if c.Level == LevelChecksum {
		in, err := OpenCopy(ctx, c.Backend, c.Key, want, c.Identities)
		return res, c.drain(ctx, in, err, io.Discard, decodedSize(want))
	}
	work, err := os.MkdirTemp(c.Dir, "verify-")
	if err != nil {
		return res, spoolError("make a directory in", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	db := filepath.Join(work, "snapshot"+dataSuffix)
	if err := c.Fetch(ctx, db); err != nil {
		return res, err
	}
	return res, c.look(ctx, db, work, &res)
}

// Fetch reads the copy whole into a new file. It is good when Fetch returns nil: its checksums were right, unless they are
// skipped.
func (c *Check) Fetch(ctx context.Context, path string) error {
	want, sum := c.expected(), newTrailer()
	if c.SkipHashes {
		want.SHA256, want.StoredSHA256, sum = "", "", nil
	}
	in, err := openDecoded(ctx, c.Backend, c.Key, want, sum, []age.Identities{c.Identities})
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		_ = in.Close()
		return spoolError("create", err)
	}
	err = c.drain(ctx, in, nil, out, decodedSize(want))
	if cerr := out.Close(); err == nil && cerr != nil {
		err = spoolError("write", cerr)
	}
	return err
}

// decodedSize is how many bytes come out of a copy: the database and etcd's checksum; 0 when it is not known.
func decodedSize(s *Snapshot) int64 {
	if s.DBSize == 0 {
		return 0
	}
	return s.DBSize + checksumSize
}

// expected is what the copy is compared with: that of another program's snapshot with its own checksum alone.
func (c *Check) expected() *Snapshot {
	s := c.Record.Snapshot.Clone()
	if s.Trigger == TriggerAdopted {
		s.StoredSize = 0
	}
	return s
}

// drain copies what was opened, and closes it.
func (c *Check) drain(ctx context.Context, in io.ReadCloser, err error, out io.Writer, total int64) error {
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	m := &checkMeter{w: out, total: total, report: c.Progress}
	_, err = io.Copy(m, in)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

type checkMeter struct {
	w           io.Writer
	done, total int64
	report      func(done, total int64)
}

func (m *checkMeter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.done += int64(n)
	if m.report != nil {
		m.report(m.done, m.total)
	}
	if err != nil {
		err = spoolError("write", err)
	}
	return n, err
}

// look reads the database that was fetched, and then drills with it when that is asked for.
func (c *Check) look(ctx context.Context, db, work string, res *Checked) error {
	if err := c.inspect(ctx, db, work, res); err != nil || c.Level < LevelDrill {
		return err
	}
	drilled, err := c.Driller.Drill(ctx, db, res.Revision)
	return c.judge(drilled, err, res)
}

// inspect reads every page and key, and compares what it finds with the manifest.
func (c *Check) inspect(ctx context.Context, db, work string, res *Checked) error {
	found, err := database.File(ctx, db, database.Options{TempDir: work})
	switch {
	case errors.Is(err, database.ErrUnreadable):
		return c.bad(err)
	case err != nil:
		return err
	}
	s := c.Record
	known := s.Trigger != TriggerAdopted || s.Revision > 0 // of those of others there may be nothing to compare with
	if known && (found.Revision != s.Revision || found.TotalKeys != s.TotalKeys || found.Hash != s.Hash) {
		return c.bad(fmt.Errorf("it has revision %d, %d keys and hash %08x, and its manifest says %d, %d and %08x",
			found.Revision, found.TotalKeys, found.Hash, s.Revision, s.TotalKeys, s.Hash))
	}
	res.Revision, res.TotalKeys, res.Hash = found.Revision, found.TotalKeys, found.Hash
	return nil
}

// judge compares what the restored etcd said with what the database holds.
func (c *Check) judge(drilled Drilled, err error, res *Checked) error {
	total := res.TotalKeys
	switch res.Drilled = drilled; {
	case errors.Is(err, ErrNotRestorable):
		return c.bad(err)
	case err != nil:
		return err
	case drilled.TotalKeys != total:
		return c.bad(fmt.Errorf("the etcd that was restored has %d keys at revision %d, and there should be %d", drilled.TotalKeys, res.Revision, total))
	}
	return nil
}

func (c *Check) bad(err error) error {
	return &Error{
		Reason: ReasonSnapshotUnreadable, Backend: c.Backend.Name(), Message: "verify " + c.Backend.URI(c.Key), Err: err,
		Hint: "this copy cannot be relied on; verify another one, and save anew",
	}
}

// isDamage reports whether an error says that a copy is not what it should be.
func isDamage(err error) bool {
	r := ReasonOf(err)
	return r == ReasonChecksumMismatch || r == ReasonSnapshotUnreadable || r == ReasonManifestUntrusted
}
