package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/snapshotd/snapshotd/internal/drill"
	"github.com/snapshotd/snapshotd/internal/inspect"
	"github.com/snapshotd/snapshotd/internal/seal"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Level says how far a copy is verified. Each does what those before it do.
type Level int

// The levels.
const (
	Checksum  Level = iota // every byte is read back and compared with its checksums
	Structure              // every page and key is read: revision, number of keys and hash are those of the manifest
	Drill                  // it is restored into a throw-away etcd, which is started, asked, and written to
)

// Verification is what was found.
type Verification struct {
	Snapshot *snapshot.Snapshot
	URI      string
	Level    Level
	Decoded  bool // the database in it was looked at; without an identity an encrypted one is only compared as it is stored
	HashKV   uint32
	Took     time.Duration
}

// Verify verifies the snapshot of a name, or the newest one, whole or not. dir is where a directory for the database is made, and removed. An error with ReasonChecksumMismatch or
// ReasonSnapshotUnreadable says that the copy is not what it should be.
func Verify(ctx context.Context, shelf *snapshot.Shelf, c Choice, level Level, identities seal.Identities, dir string) (v Verification, err error) {
	begin := time.Now()
	rec, err := pick(ctx, shelf, c)
	if err != nil {
		return v, err
	}
	cand := Candidate{rec, shelf}
	v = Verification{Snapshot: &rec.Snapshot, URI: cand.URI(), Level: level}
	defer func() { v.Took = time.Since(begin) }()
	if rec.Sealed() && identities.Empty() && level == Checksum {
		return v, readThrough(snapshot.OpenStored(ctx, shelf.Backend, shelf.Prefix+rec.DataKey(), expected(cand)))
	}
	v.Decoded = true
	if level == Checksum {
		return v, readThrough(snapshot.OpenCopy(ctx, shelf.Backend, shelf.Prefix+rec.DataKey(), expected(cand), identities))
	}
	work, err := os.MkdirTemp(dir, "snapshotd-verify-")
	if err != nil {
		return v, fmt.Errorf("verify: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	db := filepath.Join(work, "snapshot.db")
	if err := fetch(ctx, Options{Identities: identities}, cand, db); err != nil {
		return v, err
	}
	return v, v.look(ctx, db, work)
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

func readThrough(r io.ReadCloser, err error) error {
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 1<<20))
	return err
}

// look reads the database that was fetched, and drills with it when that is asked for.
func (v *Verification) look(ctx context.Context, db, work string) error {
	found, err := inspect.File(ctx, db, inspect.Options{TempDir: work})
	switch {
	case errors.Is(err, inspect.ErrUnreadable):
		return v.bad(err)
	case err != nil:
		return err
	}
	s := v.Snapshot
	known := s.Trigger != snapshot.TriggerAdopted // beside those of others there is nothing to compare with
	if known && (found.Revision != s.Revision || found.TotalKeys != s.TotalKeys || found.Hash != s.Hash) {
		return v.bad(fmt.Errorf("it has revision %d, %d keys and hash %08x, and its manifest says %d, %d and %08x",
			found.Revision, found.TotalKeys, found.Hash, s.Revision, s.TotalKeys, s.Hash))
	}
	if !known {
		s.Revision, s.TotalKeys, s.Hash = found.Revision, found.TotalKeys, found.Hash
	}
	if v.Level < Drill {
		return nil
	}
	res, err := drill.Run(ctx, drill.Options{File: db, Dir: work, Revision: s.Revision})
	switch {
	case errors.Is(err, drill.ErrNotRestorable):
		return v.bad(err)
	case err != nil:
		return err
	case res.TotalKeys != s.TotalKeys:
		return v.bad(fmt.Errorf("the etcd that was restored has %d keys at revision %d, and there should be %d", res.TotalKeys, s.Revision, s.TotalKeys))
	}
	v.HashKV = res.HashKV
	return nil
}

func (v *Verification) bad(err error) error {
	return &snapshot.Error{
		Reason: snapshot.ReasonSnapshotUnreadable, Message: "verify " + v.URI, Err: err, Hint: "this copy cannot be relied on; verify another one, and save anew",
	}
}
