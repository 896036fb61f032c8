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
	countInterval = time.Minute // a large catalog is not counted anew before
)

// Counts are the tallies of clusters, which each judgement needs. The zero value is ready for use.
type Counts struct {
	mu    sync.Mutex
	known map[string]*count // by cluster
}

type count struct {
	turn  sync.Mutex // of whoever counts
	of    content
	until time.Time // it is counted anew then
	tally *Tally
}

// content is equal as long as the records of a small cluster are the same. Those of a large one are not all known.
type content struct {
	all     bool
	records int
	newest  string
	version int64
}

func contentOf(k *Known) (c content) {
	if !k.All {
		return c
	}
	c.all, c.records = true, len(k.Records)
	for _, rec := range k.Records {
		c.version = max(c.version, rec.Version)
	}
	if c.records > 0 {
		c.newest = k.Records[0].Name
	}
	return c
}

// Forget forgets all tallies: clusters are configured anew.
func (n *Counts) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known = nil
}

// Of returns the tally of a cluster, whose catalog list reads when its records are not all known, as it was not long
// ago; nil when it cannot be counted.
func (n *Counts) Of(
	ctx context.Context, known *Known, list func(context.Context, snapshot.Query) (snapshot.Page, error),
) *Tally {
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
	of := contentOf(known)
	if mine.of == of && known.Now.Before(mine.until) {
		return mine.tally
	}
	counter := NewCounter(known)
	if known.All {
		counter.Add(known.Records)
		mine.keep(counter, of)
		return mine.tally
	}
	for q := (snapshot.Query{PageSize: countedPage}); ; {
		page, err := list(ctx, q)
		if err != nil {
			return mine.tally // the last one is better than none
		}
		counter.Add(page.Records)
		if q.PageToken = page.NextPageToken; q.PageToken == "" {
			mine.keep(counter, of)
			return mine.tally
		}
	}
}

// keep keeps a tally for a while. Of a small cluster, it is over when the next save is due.
func (m *count) keep(counter *Counter, of content) {
	tally := counter.Tally()
	m.tally, m.of, m.until = &tally, of, counter.known.Now.Add(countInterval)
	for _, r := range tally.Removals {
		if of.all && !r.Due.IsZero() && r.Due.Before(m.until) {
			m.until = r.Due
		}
	}
}
