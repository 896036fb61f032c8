package daemon

import (
	"context"
	"errors"
	"sync"

	"github.com/snapshotd/snapshotd/catalog"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/proving"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/keeping"
)

// following is the journal of a cluster, and what a leader does for it beside the domain's loops. It is nil without a
// journal.
type following struct {
	journal *journal.Journal
	keeper  *keeping.Keeper
	noter   *keeping.Noter
	prover  *proving.Prover
}

// campaign returns the election of a cluster's leader, who also follows etcd in its term.
func (f *following) campaign(records *catalog.Catalog, node string) schedule.Campaign {
	return func(ctx context.Context, lead func(context.Context, schedule.Term)) error {
		return records.Lead(ctx, node, func(ctx context.Context, term *catalog.Term) {
			f.during(ctx, term.ID(), func() { lead(ctx, term) })
		})
	}
}

// during follows etcd as long as lead runs, until ctx, the term of a leader, ends.
func (f *following) during(ctx context.Context, term int64, lead func()) {
	var work sync.WaitGroup
	if f != nil {
		work.Go(func() { f.journal.Follow(ctx, term) })
		work.Go(func() { f.keeper.Run(ctx) })
		work.Go(func() { f.prover.Run(ctx) })
	}
	// The term is given back only when nothing writes for it any more: the next leader goes on from there.
	lead()
	work.Wait()
}

// scrubbing makes a scrub read a share of the journal's segments back, too, and one that drills restore a random
// revision of the recovery window, where there is a journal.
func (f *following) scrubbing(scrub scrubbing) scrubbing {
	if f == nil {
		return scrub
	}
	// One that has found damage keeps the others from nothing: a scrub is to find all of it.
	return func(ctx context.Context, s cluster.Scrub) error {
		err := scrub(ctx, s)
		if s.Share > 0 && ctx.Err() == nil {
			err = errors.Join(err, f.keeper.Scrub(ctx, s.Share))
		}
		if s.Drill && ctx.Err() == nil {
			err = errors.Join(err, f.prover.Drill(ctx))
		}
		return err
	}
}
