package catalog

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/catalog/internal/page"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// indexChunk is how many keys of the index by time are read at a time.
	indexChunk = 500
	// recordChunk is how many records are read in one transaction; etcd takes 128 operations.
	recordChunk = 100
)

// List returns a page of the records that match, newest first. It reads as few records as possible: the page and one
// record beyond it, which shows that there is another page.
func (c *Catalog) List(ctx context.Context, q snapshot.Query) (snapshot.Page, error) {
	token, err := page.Decode(q)
	if err != nil {
		return snapshot.Page{}, err
	}
	l := &listing{Catalog: c, q: q}
	l.from, l.end = c.timeRange(q)
	if q.PageToken != "" {
		l.revision, l.from = token.Revision, c.keys.byTimes()+token.After+"\x00"
	}
	return l.page(ctx)
}

// timeRange returns the keys of the index by time between which the query's records are; later times come first.
func (c *Catalog) timeRange(q snapshot.Query) (from, end string) {
	from, end = c.keys.byTimes(), clientv3.GetPrefixRangeEnd(c.keys.byTimes())
	if !q.Until.IsZero() {
		from = c.keys.atTime(q.Until) // includes those of the last nanosecond, which Matches leaves out
	}
	if !q.From.IsZero() {
		end = clientv3.GetPrefixRangeEnd(c.keys.atTime(q.From))
	}
	return from, end
}

// listing is one List under way.
type listing struct {
	*Catalog
	q         snapshot.Query
	from, end string // of the index by time, still to be read
	revision  int64

	// etcd counts all keys of a range, however few of them it is to return. So the index is read in windows of time, each
	// wider than the one before it.
	stop string        // the end of the window
	at   time.Time     // the time that the window goes back to
	span time.Duration // of the next window
}

// firstWindow is the length of the first window of the index, and windowGrowth the factor from one window to the next.
// Ten windows cover 50 years.
const (
	firstWindow  = time.Hour
	windowGrowth = 4
)

// window returns the end of the window that is read, and moves on to the next one when it has been.
func (l *listing) window() string {
	if l.from < l.stop {
		return l.stop
	}
	if l.span == 0 { // from the newest, which may be ahead of our clock, or from the query's end
		l.at, l.span = time.Now(), firstWindow
		if t, ok := l.keys.timeOf(l.from); ok {
			l.at = t.Add(-l.span)
		}
	} else {
		l.at = l.at.Add(-l.span)
		l.span *= windowGrowth
	}
	if l.stop = min(l.end, l.keys.atTime(l.at)); l.at.Unix() <= 0 || l.stop <= l.from {
		l.stop = l.end
	}
	return l.stop
}

func (l *listing) page(ctx context.Context) (snapshot.Page, error) {
	var p snapshot.Page
	for l.from < l.end {
		names, err := l.index(ctx)
		if err != nil {
			return snapshot.Page{}, err
		}
		for some := range slices.Chunk(names, recordChunk) {
			recs, err := l.records(ctx, some)
			if err != nil {
				return snapshot.Page{}, err
			}
			for _, r := range recs {
				if !page.Matches(r, l.q) {
					continue
				}
				if len(p.Records) == l.q.PageSize {
					last := page.Key(&p.Records[l.q.PageSize-1].Snapshot)
					p.NextPageToken = page.Token{Revision: l.revision, After: last}.Encode(l.q)
					return p, nil
				}
				p.Records = append(p.Records, r)
			}
		}
	}
	return p, nil
}

// index reads the next names of the index, and pins the revision with the first ones.
func (l *listing) index(ctx context.Context) (names []string, err error) {
	limit := min(l.q.PageSize+1, indexChunk)
	if l.filters() {
		limit = indexChunk
	}
	stop := l.window()
	err = l.do(ctx, "list", "list the records", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		resp, err := client.Get(ctx, l.from, clientv3.WithRange(stop), clientv3.WithKeysOnly(),
			clientv3.WithLimit(int64(limit)), clientv3.WithRev(l.revision))
		if err != nil {
			return l.expired(err)
		}
		if l.revision == 0 {
			l.revision = resp.Header.Revision
		}
		next := stop
		names = nil
		for _, kv := range resp.Kvs {
			name, err := l.keys.nameByTime(string(kv.Key))
			if err != nil {
				return damaged(string(kv.Key), err)
			}
			names = append(names, name)
			if resp.More {
				next = string(kv.Key) + "\x00"
			}
		}
		l.from = next
		return nil
	})
	return names, err
}

// records reads the records of names at the listing's revision, in their order.
func (l *listing) records(ctx context.Context, names []string) (recs []*snapshot.Record, err error) {
	err = l.do(ctx, "list records", "list the records", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		ops := make([]clientv3.Op, len(names))
		for i, name := range names {
			ops[i] = clientv3.OpGet(l.keys.record(name), clientv3.WithRev(l.revision))
		}
		resp, err := client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return l.expired(err)
		}
		recs = nil
		for i, r := range resp.Responses {
			kvs := r.GetResponseRange().GetKvs()
			if len(kvs) == 0 {
				// The record was removed by hand, and its key in the index was left.
				l.cfg.Logger.WarnContext(ctx, "snapshot is in the index by time and has no record", "snapshot", names[i])
				continue
			}
			rec, err := l.decode(kvs[0])
			if err != nil {
				return err
			}
			recs = append(recs, rec)
		}
		return nil
	})
	return recs, err
}

// expired is err, or the error of a page token whose revision is gone.
func (l *listing) expired(err error) error {
	if !isGone(err) {
		return err
	}
	return snapshot.ReasonPageTokenExpired.New("list the catalog of cluster %q at revision %d", l.cfg.Cluster, l.revision).
		Because(err).Advise("the pages are too old; start again without a page token")
}

func (l *listing) filters() bool {
	return len(l.q.States) > 0 || l.q.Backend != "" || len(l.q.Labels) > 0
}
