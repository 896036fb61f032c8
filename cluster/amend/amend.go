// Package amend changes records of the catalog that other replicas change, too. Each change is conditional on the
// record being as it was read, so none is lost. When another replica was faster, the record is read again, and the
// change decided anew.
package amend

import (
	"context"
	"errors"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Records is the part of the catalog that is needed to change a record.
type Records interface {
	Get(ctx context.Context, name string) (*snapshot.Record, error)
	Update(ctx context.Context, r *snapshot.Record) error
}

var (
	// ErrUnchanged says that a record needs no change.
	ErrUnchanged = errors.New("unchanged")
	// ErrAlwaysChanged says that every attempt met a change by another replica.
	ErrAlwaysChanged = errors.New("it was changed again and again meanwhile")
	// ErrGone says that the snapshot of a record is no more: it was deleted while its bytes were worked on.
	ErrGone = errors.New("the snapshot is gone, or is being deleted")
)

// attempts is how often a change is tried. Two replicas that change one record at once meet a few times at most.
const attempts = 5

// Retry makes an attempt, and repeats it a few times while another replica is faster.
func Retry(attempt func() error) error {
	for range attempts {
		err := attempt()
		// ErrExists is a conflict as well: another replica has made the record that this attempt was to make.
		if !errors.Is(err, snapshot.ErrConflict) && !errors.Is(err, snapshot.ErrExists) {
			return err
		}
	}
	return ErrAlwaysChanged
}

// Record changes a record on condition that it is as it was read. When another replica was faster, it reads the
// record again, asks change whether it is still to be changed, and tries anew; again is true then. It returns the
// record as the catalog has it. ErrUnchanged of change ends it without a write.
func Record(
	ctx context.Context, records Records, rec *snapshot.Record, change func(next *snapshot.Record, again bool) error,
) (*snapshot.Record, error) {
	again := false
	err := Retry(func() error {
		if again {
			current, err := records.Get(ctx, rec.Name)
			if err != nil {
				return err
			}
			rec = current
		}
		// The record of the caller stays as it is: a change that is not written must not be seen.
		next := rec.Copy()
		if err := change(next, again); err != nil {
			return err
		}
		again = true
		if err := records.Update(ctx, next); err != nil {
			return err
		}
		rec = next
		return nil
	})
	switch {
	case errors.Is(err, ErrUnchanged):
		return rec, nil
	case errors.Is(err, ErrAlwaysChanged):
		return rec, snapshot.ReasonConflict.New("change the record of %s", rec.Name).Because(err)
	}
	return rec, err
}

// Snapshot changes the record of a snapshot as [Record] does, unless the snapshot is gone or became another one: that
// is ErrGone.
func Snapshot(
	ctx context.Context, records Records, rec *snapshot.Record, change func(next *snapshot.Record, again bool) error,
) (*snapshot.Record, error) {
	sum := rec.StoredSHA256
	rec, err := Record(ctx, records, rec, func(next *snapshot.Record, again bool) error {
		// The first attempt works on the record that was just read. Only one that was read again can be another's.
		if again && (next.State() == snapshot.StateDeleting || next.StoredSHA256 != sum) {
			return ErrGone
		}
		return change(next, again)
	})
	if snapshot.IsNotFound(err) {
		return rec, ErrGone
	}
	return rec, err
}
