package memory

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"

	"github.com/snapshotd/snapshotd/catalog/internal/page"
	"github.com/snapshotd/snapshotd/snapshot"
)

// List implements [cluster.History].
func (c *Catalog) List(ctx context.Context, q snapshot.Query) (snapshot.Page, error) {
	token, err := page.Decode(q)
	if err != nil {
		return snapshot.Page{}, err
	}
	if err := c.enter(ctx, "list the records"); err != nil {
		return snapshot.Page{}, err
	}
	defer c.mu.Unlock()
	if q.PageToken == "" {
		token.Revision = c.revision
	}
	records, ok := c.at(token.Revision)
	if !ok {
		return snapshot.Page{}, snapshot.ReasonPageTokenExpired.New("list the catalog at revision %d", token.Revision).
			Advise("the pages are too old; start again without a page token")
	}
	found := map[string]*snapshot.Record{}
	var keys []string
	var p snapshot.Page
	for _, r := range records {
		if err := c.bad(r.Name); err != nil {
			p.Unreadable = append(p.Unreadable, err)
			continue
		}
		if key := page.Key(&r.Snapshot); key > token.After && page.Matches(r, q) {
			found[key] = r
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if len(keys) > q.PageSize {
		keys = keys[:q.PageSize]
		p.NextPageToken = page.Token{Revision: token.Revision, After: keys[q.PageSize-1]}.Encode(q)
	}
	for _, key := range keys {
		p.Records = append(p.Records, found[key].Copy())
	}
	return p, nil
}

// Changes implements [cluster.History].
func (c *Catalog) Changes(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Changes, error] {
	return func(yield func(snapshot.Changes, error) bool) {
		at, err := c.begin(ctx, after)
		next := snapshot.Changes{Position: at}
		for err == nil {
			if !yield(next, nil) {
				return
			}
			next, err = c.await(ctx, next.Revision)
		}
		yield(snapshot.Changes{}, err)
	}
}

// begin returns the position from which changes are told.
func (c *Catalog) begin(ctx context.Context, after snapshot.Position) (snapshot.Position, error) {
	if err := c.enter(ctx, "follow the records"); err != nil {
		return after, err
	}
	defer c.mu.Unlock()
	now := c.position()
	switch {
	case after.Revision == 0:
		return now, nil
	case after.Revision > now.Revision:
		return now, expired(after.Revision, "the catalog is at revision %d", now.Revision)
	case after.History != "" && after.History != c.history:
		return now, expired(after.Revision, "the position is of the history %.80q, not of %q", after.History, c.history)
	}
	return snapshot.Position{Revision: after.Revision, History: c.history}, c.lost(after.Revision)
}

// lost returns an error when a change after a revision is forgotten.
func (c *Catalog) lost(after int64) error {
	if after >= c.forgotten {
		return nil
	}
	return expired(after, "the changes up to revision %d are compacted", c.forgotten)
}

// await returns the first changes after a revision, as soon as there are any.
func (c *Catalog) await(ctx context.Context, after int64) (snapshot.Changes, error) {
	for {
		next, more, err := c.next(ctx, after)
		if err != nil || next.Revision > 0 {
			return next, err
		}
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
}

// next returns a copy of the first changes after a revision, or a channel that is closed when there may be some.
func (c *Catalog) next(ctx context.Context, after int64) (ch snapshot.Changes, more <-chan struct{}, err error) {
	if err := c.enter(ctx, "follow the records"); err != nil {
		return ch, nil, err
	}
	defer c.mu.Unlock()
	if err := c.lost(after); err != nil {
		return ch, nil, err
	}
	i := sort.Search(len(c.log), func(i int) bool { return c.log[i].Revision > after })
	if i == len(c.log) {
		return ch, c.changed, nil
	}
	ch.Position = c.log[i].Position
	for _, r := range c.log[i].Records {
		ch.Records = append(ch.Records, snapshot.Change{Before: copyOf(r.Before), After: copyOf(r.After)})
	}
	return ch, nil, nil
}

func copyOf(r *snapshot.Record) *snapshot.Record {
	if r == nil {
		return nil
	}
	return r.Copy()
}

func expired(after int64, format string, args ...any) error {
	return snapshot.ReasonWatchExpired.New("follow the catalog after revision %d", after).
		Because(fmt.Errorf(format, args...)).
		Advise("the changes since are not known any more; list, then watch anew without a resume token")
}
