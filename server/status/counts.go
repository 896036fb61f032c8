package status

import (
	"context"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Limits of the cost of tallies: a large catalog is read as a whole for one.
const (
	countedPage   = 1000        // snapshots of a page
	countInterval = time.Minute // at the shortest between two counts
)

// Counts are the tallies of large clusters. The zero value is ready for use.
type Counts struct {
	mu    sync.Mutex
	known map[string]*count // by cluster
}

type count struct {
	turn  sync.Mutex // of whoever counts
	at    time.Time
	tally *Tally
}

// Of returns the tally of a cluster, whose catalog list reads, as it was not long ago; nil when it cannot be counted.
func (n *Counts) Of(ctx context.Context, known *Known, list func(context.Context, snapshot.Query) (snapshot.Page, error)) *Tally {
	n.mu.Lock()
	if n.known == nil {
		n.known = map[string]*count{}
	}
	mine := n.known[known.Name]
	if mine == nil {
		mine = &count{}
		n.known[known.Name] = mine
	}
	n.mu.Unlock()
	mine.turn.Lock()
	defer mine.turn.Unlock()
	if time.Since(mine.at) < countInterval {
		return mine.tally
	}
	counter := NewCounter(known)
	for q := (snapshot.Query{PageSize: countedPage}); ; {
		page, err := list(ctx, q)
		if err != nil {
			return mine.tally // the last one is better than none
		}
		counter.Add(page.Records)
		if q.PageToken = page.NextPageToken; q.PageToken == "" {
			tally := counter.Tally()
			mine.at, mine.tally = time.Now(), &tally
			return mine.tally
		}
	}
}
