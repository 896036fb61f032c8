package restore

import (
	"context"

	"github.com/snapshotd/snapshotd/snapshot"
)

// List returns what a shelf holds, newest first: at most limit snapshots when that is not 0. What is not whole is left out,
// and skipped says why.
func List(ctx context.Context, shelf *snapshot.Shelf, limit int) (all []*snapshot.Snapshot, skipped []error, err error) {
	entries, err := shelf.Entries(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if limit > 0 && len(all) == limit {
			break
		}
		rec, err := shelf.Record(ctx, e)
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case err != nil && damaged(err):
			skipped = append(skipped, err)
		case err != nil:
			return nil, nil, err
		default:
			all = append(all, &rec.Snapshot)
		}
	}
	return all, skipped, nil
}
