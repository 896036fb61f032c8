package restore

import (
	"context"
	"sync"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// listWidth is how many snapshots are looked at side by side: each one costs two small requests.
const listWidth = 8

// List returns the snapshots of a repository, newest first: at most limit of them when that is not 0. Those that are
// not whole are left out, and skipped says why. Of each, the manifest was read, the size compared, and the first bytes
// of the data were looked at; no checksum was compared.
func List(
	ctx context.Context, repo *repository.Repository, limit int,
) (all []*snapshot.Record, skipped []error, err error) {
	entries, err := repo.Entries(ctx)
	if err != nil {
		return nil, nil, err
	}
	for len(entries) > 0 && (limit == 0 || len(all) < limit) {
		n := min(len(entries), listWidth)
		if limit > 0 {
			n = min(n, limit-len(all))
		}
		records, errs := look(ctx, repo, entries[:n])
		entries = entries[n:]
		for i, rec := range records {
			switch err := errs[i]; {
			case ctx.Err() != nil:
				return nil, nil, context.Cause(ctx)
			case err != nil && snapshot.IsDamage(err):
				skipped = append(skipped, err)
			case err != nil:
				return nil, nil, err
			default:
				all = append(all, rec)
			}
		}
	}
	return all, skipped, nil
}

// look reads the manifests of some entries and the first bytes of their data.
func look(
	ctx context.Context, repo *repository.Repository, entries []repository.Entry,
) ([]*snapshot.Record, []error) {
	records, errs := make([]*snapshot.Record, len(entries)), make([]error, len(entries))
	var wg sync.WaitGroup
	for i, e := range entries {
		wg.Go(func() {
			if records[i], errs[i] = repo.Record(ctx, e); errs[i] == nil {
				errs[i] = repo.PeekCopy(ctx, records[i])
			}
		})
	}
	wg.Wait()
	return records, errs
}
