package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Choice says which snapshot: one of the three.
type Choice struct {
	Name   string
	Latest bool      // the newest that is whole
	At     time.Time // the newest that was whole by then
}

// candidate is a copy that can be restored.
type candidate struct {
	*snapshot.Record
	shelf *snapshot.Shelf
}

// URI returns where the copy is.
func (c *candidate) URI() string { return c.Locations[0].URI }

// choose tries the copies that can be taken, in their order, until one is good: of the chosen snapshot one from each shelf that
// has it, and, when not a name was chosen, of the next older ones, which are only for the case that the newer ones prove to be
// damaged. skipped says why others that were asked for are left out.
func choose(ctx context.Context, shelves []*snapshot.Shelf, c Choice, try func(candidate) error) (skipped []error, err error) {
	type entry struct {
		snapshot.Entry
		shelf *snapshot.Shelf
	}
	var all []entry
	var unread []error
	for _, s := range shelves {
		entries, err := s.Entries(ctx)
		if err != nil {
			unread = append(unread, err)
			continue
		}
		for _, e := range entries {
			all = append(all, entry{e, s})
		}
	}
	if len(unread) == len(shelves) {
		return nil, errors.Join(unread...)
	}
	skipped = unread
	slices.SortStableFunc(all, func(a, b entry) int { return b.Time.Compare(a.Time) }) // of two copies, the first shelf's first
	for _, e := range all {
		if c.Name != "" && e.Name != c.Name || !c.At.IsZero() && e.Time.After(c.At) {
			continue
		}
		rec, err := e.shelf.Record(ctx, e.Entry)
		if err == nil {
			err = try(candidate{rec, e.shelf})
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
	return skipped, nothing(c, shelves, skipped)
}

// damaged reports whether an error is of one copy, so that another one may do.
func damaged(err error) bool {
	switch snapshot.ReasonOf(err) {
	case snapshot.ReasonChecksumMismatch, snapshot.ReasonSnapshotUnreadable, snapshot.ReasonManifestUntrusted,
		snapshot.ReasonBackendUnavailable, snapshot.ReasonBackendAccessDenied, snapshot.ReasonBackendNotFound:
		return true
	}
	return false
}

// nothing is the error that no copy was left.
func nothing(c Choice, shelves []*snapshot.Shelf, skipped []error) error {
	what := "snapshot"
	switch {
	case c.Name != "":
		what = fmt.Sprintf("snapshot %q", c.Name)
	case !c.At.IsZero():
		what = "snapshot of " + c.At.Format(time.RFC3339) + " or before"
	}
	where := ""
	for i, s := range shelves {
		if i > 0 {
			where += " or "
		}
		where += s.Backend.URI(s.Prefix)
	}
	if len(skipped) > 0 {
		return &snapshot.Error{
			Reason: snapshot.ReasonSnapshotUnreadable, Message: fmt.Sprintf("there is no %s in %s that is whole", what, where), Err: errors.Join(skipped...),
			Hint: "nothing was restored; another backend may have a good copy, give it with another --from",
		}
	}
	return &snapshot.Error{
		Reason: snapshot.ReasonSnapshotNotFound, Message: fmt.Sprintf("there is no %s in %s", what, where),
		Hint: "list --from shows what there is; --cluster names the cluster, --prefix says where its snapshots lie",
	}
}
