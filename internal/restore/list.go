package restore

import (
	"context"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// List returns the snapshots of a repository, newest first: at most limit of them when that is not 0. Those that are
// not whole are left out, and skipped says why.
func List(
	ctx context.Context, repo *repository.Repository, limit int,
) (all []*snapshot.Snapshot, skipped []error, err error) {
	entries, err := repo.Entries(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if limit > 0 && len(all) == limit {
			break
		}
		rec, err := repo.Record(ctx, e)
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case err != nil && snapshot.IsDamage(err):
			skipped = append(skipped, err)
		case err != nil:
			return nil, nil, err
		default:
			all = append(all, &rec.Snapshot)
		}
	}
	return all, skipped, nil
}
