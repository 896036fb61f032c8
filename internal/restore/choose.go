package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Choice says which snapshot to take, by one of three ways.
type Choice struct {
	Name   string
	Latest bool      // the newest READY one
	At     time.Time // the newest READY one of this time or before
}

// candidate is a copy that can be restored.
type candidate struct {
	*snapshot.Record
	repo *repository.Repository
}

// URI returns the place of the copy.
func (c *candidate) URI() string { return c.Locations()[0].URI }

// choose tries copies in order until one is good. Of a snapshot, each repository has a copy. Unless the choice is a
// name, older snapshots follow, in case the newer ones prove to be damaged. skipped says why chosen copies were left
// out.
func choose(
	ctx context.Context, repos []*repository.Repository, c Choice, try func(candidate) error,
) (skipped []error, err error) {
	type entry struct {
		repository.Entry
		repo *repository.Repository
	}
	var all []entry
	var unread []error
	for _, s := range repos {
		entries, err := s.Entries(ctx)
		if err != nil {
			unread = append(unread, err)
			continue
		}
		for _, e := range entries {
			all = append(all, entry{e, s})
		}
	}
	if len(unread) == len(repos) {
		return nil, errors.Join(unread...)
	}
	skipped = unread
	// Of two copies of a snapshot, that of an earlier repository stays first.
	slices.SortStableFunc(all, func(a, b entry) int { return b.Time.Compare(a.Time) })
	for _, e := range all {
		if c.Name != "" && e.Name != c.Name || !c.At.IsZero() && e.Time.After(c.At) {
			continue
		}
		rec, err := e.repo.Record(ctx, e.Entry)
		if err == nil {
			err = try(candidate{rec, e.repo})
		}
		switch {
		case err == nil:
			return skipped, nil
		case ctx.Err() != nil:
			return skipped, context.Cause(ctx)
		case !damaged(err):
			return skipped, err
		}
		skipped = append(skipped, err)
	}
	return skipped, nothing(c, repos, skipped)
}

// damaged reports whether an error concerns one copy alone, so that another one may be good.
func damaged(err error) bool {
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonChecksumMismatch, snapshot.ReasonSnapshotUnreadable, snapshot.ReasonManifestUntrusted,
		snapshot.ReasonBackendUnavailable, snapshot.ReasonBackendAccessDenied, snapshot.ReasonBackendNotFound:
		return true
	}
	return false
}

// nothing is the error that no copy is left.
func nothing(c Choice, repos []*repository.Repository, skipped []error) error {
	wanted := "snapshot"
	switch {
	case c.Name != "":
		wanted = fmt.Sprintf("snapshot %q", c.Name)
	case !c.At.IsZero():
		wanted = "snapshot of " + c.At.Format(time.RFC3339) + " or before"
	}
	where := ""
	for i, s := range repos {
		if i > 0 {
			where += " or "
		}
		where += s.URI("")
	}
	if len(skipped) > 0 {
		return snapshot.ReasonSnapshotUnreadable.New("there is no %s in %s that is whole", wanted, where).
			Because(errors.Join(skipped...)).
			Advise("nothing was restored; another backend may have a good copy, give it with another --from")
	}
	return snapshot.ReasonSnapshotNotFound.New("there is no %s in %s", wanted, where).
		Advise("list --from shows what there is; --cluster names the cluster, --prefix says where its snapshots lie")
}
