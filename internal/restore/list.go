package restore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// listWidth is how many snapshots are looked at side by side: each one costs two small requests. A backend that answers
// for so many of them that it is away is asked for no more.
const listWidth = 8

// Listing is what [List] has found out of a repository.
type Listing struct {
	Whole   []*snapshot.Record // newest first
	Damaged []error            // one for each snapshot that is not whole
	Unread  []error            // one for each that could not be read, in a cold storage class for example: it may be whole
}

// List lists the snapshots of a repository, newest first: at most limit whole ones when that is not 0. Of each, the
// manifest was read, the size compared, and the first bytes of the data were looked at; no checksum was compared. One
// that cannot be read hides no other one; but a backend that is away is not asked for all of them.
func List(ctx context.Context, repo *repository.Repository, limit int) (Listing, error) {
	var l Listing
	away := 0 // one after the other
	entries, err := repo.Entries(ctx)
	for err == nil && len(entries) > 0 && (limit == 0 || len(l.Whole) < limit) {
		n := min(len(entries), listWidth)
		if limit > 0 {
			n = min(n, limit-len(l.Whole))
		}
		records, errs := look(ctx, repo, entries[:n])
		entries = entries[n:]
		if ctx.Err() != nil {
			return Listing{}, context.Cause(ctx)
		}
		for i, rec := range records {
			l.add(rec, errs[i])
			if away++; !isAway(errs[i]) {
				away = 0
			}
		}
		if away >= listWidth && len(entries) > 0 {
			l.Unread = append(l.Unread, fmt.Errorf("%d older ones were not looked at", len(entries)))
			break
		}
	}
	return l, err
}

// add notes a snapshot, or why it is not one that can be restored.
func (l *Listing) add(rec *snapshot.Record, err error) {
	switch {
	case err == nil:
		l.Whole = append(l.Whole, rec)
	case snapshot.IsDamage(err):
		l.Damaged = append(l.Damaged, err)
	default:
		l.Unread = append(l.Unread, err)
	}
}

// isAway reports whether an error is that of a backend which does not answer now, and not of one object alone.
func isAway(err error) bool {
	e, ok := errors.AsType[*snapshot.Error](err)
	return ok && e.Retry > 0
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
