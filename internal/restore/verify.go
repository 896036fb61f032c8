package restore

import (
	"context"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/internal/codec/age"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Verification is the result of [Verify].
type Verification struct {
	Snapshot *snapshot.Snapshot
	URI      string
	Level    snapshot.Level
	repository.Checked
	Took time.Duration
}

// VerifyOptions are the options of [Verify].
type VerifyOptions struct {
	Repository *repository.Repository
	Choice     Choice // a name, or the newest
	Level      snapshot.Level
	Identities age.Identities     // for snapshots that are encrypted
	Dir        string             // in which a directory for the database is made and removed
	Driller    repository.Driller // for LevelDrill
	// Others have further copies of the snapshots, and of the segments. They are for [Prove] and [DrillAt] alone.
	Others []*repository.Repository
}

// repositories returns all of them.
func (o *VerifyOptions) repositories() []*repository.Repository {
	return append([]*repository.Repository{o.Repository}, o.Others...)
}

// Verify verifies the chosen snapshot, whether it is whole or not. An error with ReasonChecksumMismatch or
// ReasonSnapshotUnreadable says that the copy is damaged.
func Verify(ctx context.Context, o VerifyOptions) (v Verification, err error) {
	begin := time.Now()
	rec, err := pick(ctx, o.Repository, o.Choice)
	if err != nil {
		return v, err
	}
	v = Verification{Snapshot: &rec.Snapshot, URI: rec.Locations()[0].URI, Level: o.Level}
	size := min(max(rec.DBSize, rec.StoredSize), snapshot.MaxSize)
	if need := o.Level.Room(size); need > 0 {
		if err := checkSpace("verify", o.Dir, size, need); err != nil {
			return v, err
		}
	}
	check := repository.Check{
		Repository: o.Repository, Record: rec, Level: o.Level, Identities: o.Identities, Dir: o.Dir, Driller: o.Driller,
	}
	found, err := check.Run(ctx)
	v.Checked = found
	if err == nil && o.Level > snapshot.LevelChecksum {
		s := v.Snapshot
		s.Revision, s.TotalKeys, s.Hash, s.Alarms = found.Revision, found.TotalKeys, found.Hash, found.Alarms
	}
	v.Took = time.Since(begin)
	return v, err
}

// pick returns the record of the chosen snapshot, or the error that it is not whole.
func pick(ctx context.Context, repo *repository.Repository, c Choice) (*snapshot.Record, error) {
	entries, err := repo.Entries(ctx)
	if err != nil {
		return nil, err
	}
	timely := slices.ContainsFunc(entries, func(e repository.Entry) bool { return !c.ahead(e.Time) })
	for _, e := range entries {
		if c.Latest && (!timely || !c.ahead(e.Time)) || e.Name == c.Name {
			return repo.Record(ctx, e)
		}
	}
	return nil, nothing(c, []*repository.Repository{repo}, nil)
}
