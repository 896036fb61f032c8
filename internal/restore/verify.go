package restore

import (
	"context"
	"time"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/internal/etcd/drill"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Level is the domain's.
type Level = snapshot.Level

// The levels of which a verification has more to say.
const (
	Checksum = snapshot.LevelChecksum
	Drill    = snapshot.LevelDrill
)

// Verification is what was found.
type Verification struct {
	Snapshot *snapshot.Snapshot
	URI      string
	Level    Level
	snapshot.Checked
	Took time.Duration
}

// Verify verifies the snapshot of a name, or the newest one, whole or not. dir is where a directory for the database is made,
// and removed. An error with ReasonChecksumMismatch or ReasonSnapshotUnreadable says that the copy is not what it should be.
func Verify(ctx context.Context, shelf *snapshot.Shelf, c Choice, level Level, identities age.Identities, dir string) (v Verification, err error) {
	begin := time.Now()
	rec, err := pick(ctx, shelf, c)
	if err != nil {
		return v, err
	}
	v = Verification{Snapshot: &rec.Snapshot, URI: rec.Locations[0].URI, Level: level}
	size := max(rec.DBSize, rec.StoredSize)
	if need := level.Room(size); need > 0 {
		if err := checkSpace("verify", dir, size, need); err != nil {
			return v, err
		}
	}
	check := snapshot.Check{
		Backend: shelf.Backend, Key: shelf.Prefix + rec.DataKey(), Record: rec, Level: level, Identities: identities, Dir: dir, Driller: drill.Driller{},
	}
	found, err := check.Run(ctx)
	v.Checked = found
	if err == nil && level > Checksum {
		s := v.Snapshot
		s.Revision, s.TotalKeys, s.Hash = found.Revision, found.TotalKeys, found.Hash
	}
	v.Took = time.Since(begin)
	return v, err
}

// pick returns the record of the chosen snapshot: that it is not whole is for the caller to hear.
func pick(ctx context.Context, shelf *snapshot.Shelf, c Choice) (*snapshot.Record, error) {
	entries, err := shelf.Entries(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if c.Latest || e.Name == c.Name {
			return shelf.Record(ctx, e)
		}
	}
	return nil, nothing(c, []*snapshot.Shelf{shelf}, nil)
}
