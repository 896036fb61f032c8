package catalog

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
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

	// etcd counts all keys of a range, however few of them it is to return. So an index that is known to be long is read
	// in windows of time, each wider than the one before it.
	stop string        // the end of the window
	at   time.Time     // the time that the window goes back to
	span time.Duration // of the next window

	read   int             // keys of the index
	sparse bool            // the index has keys that lead to no record of the page
	strays []stray         // keys of the index that no record has made
	unread map[string]bool // names of the records that cannot be read and were met
}

// maxUnreadable is how many records that cannot be read a page tells of.
const maxUnreadable = 100

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
	if !l.long.Load() {
		l.stop = l.end
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

func (l *listing) page(ctx context.Context) (p snapshot.Page, err error) {
	defer func() { l.removeStrays(ctx, l.strays) }()
	for l.from < l.end {
		entries, err := l.index(ctx)
		if err != nil {
			return snapshot.Page{}, err
		}
		for some := range slices.Chunk(entries, recordChunk) {
			recs, err := l.records(ctx, some, &p)
			if err != nil {
				return snapshot.Page{}, err
			}
			l.sparse = l.sparse || len(recs) < len(some)
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
	if l.q.PageToken == "" && l.q.From.IsZero() && l.q.Until.IsZero() {
		l.long.Store(l.read > indexChunk)
	}
	return p, nil
}

// index reads the next keys of the index, and pins the revision with the first ones. It leaves out those that no record
// can have.
func (l *listing) index(ctx context.Context) (entries []entry, err error) {
	limit := min(l.q.PageSize+1, indexChunk)
	if l.filters() || l.sparse {
		limit = indexChunk
	}
	stop, read := l.window(), 0
	err = l.do(ctx, "list", "list the records", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		resp, err := client.Get(ctx, l.from, clientv3.WithRange(stop), clientv3.WithKeysOnly(),
			clientv3.WithLimit(int64(limit)), clientv3.WithRev(l.revision))
		if err != nil {
			return l.expired(err)
		}
		if l.revision == 0 {
			l.revision = resp.Header.Revision
		}
		read = len(resp.Kvs)
		next := stop
		entries = nil
		for _, kv := range resp.Kvs {
			key := string(kv.Key)
			if name, ok := l.keys.nameByTime(key); ok {
				entries = append(entries, entry{key, name, kv.ModRevision})
			} else {
				l.sparse = true
				l.warn(ctx, key, kv.ModRevision, "key of the index by time is of no record", errNoEntry)
			}
			if resp.More {
				next = key + "\x00"
			}
		}
		l.from = next
		if resp.Count > indexChunk && !l.long.Swap(true) {
			l.stop = next // the rest is read in windows
		}
		return nil
	})
	l.read += read
	return entries, err
}

var errNoEntry = errors.New("it names no time and snapshot")

// records returns the records that have made entries of the index, in their order and at the listing's revision. It
// notes the other entries, and in the page the records that cannot be read.
func (l *listing) records(ctx context.Context, entries []entry, p *snapshot.Page) (recs []*snapshot.Record, err error) {
	kvs, large, err := l.values(ctx, entries)
	switch {
	case err != nil:
		return nil, err
	case large && len(entries) == 1:
		e := entries[0]
		l.unreadable(ctx, e, e.revision, l.bad(e.name, l.keys.record(e.name), errHuge), p)
		return nil, nil
	case large:
		half := len(entries) / 2
		if recs, err = l.records(ctx, entries[:half], p); err != nil {
			return nil, err
		}
		more, err := l.records(ctx, entries[half:], p)
		return append(recs, more...), err
	}
	for i, e := range entries {
		kv := kvs[i]
		if kv == nil {
			l.strays = append(l.strays, stray{e, 0})
			continue
		}
		switch r, err := l.decode(kv); {
		case err != nil:
			l.unreadable(ctx, e, kv.ModRevision, err, p)
		case l.keys.byTime(&r.Snapshot) != e.key:
			l.strays = append(l.strays, stray{e, kv.ModRevision})
		default:
			recs = append(recs, r)
		}
	}
	return recs, nil
}

// values reads the records of entries; large says that they do not fit into an answer.
func (l *listing) values(ctx context.Context, entries []entry) (kvs []*mvccpb.KeyValue, large bool, err error) {
	ops := make([]clientv3.Op, len(entries))
	for i, e := range entries {
		ops[i] = clientv3.OpGet(l.keys.record(e.name), clientv3.WithRev(l.revision))
	}
	err = l.do(ctx, "list records", "list the records", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		resp, err := l.bounded(client).Txn(ctx).Then(ops...).Commit()
		if large = tooLarge(err); large {
			return nil
		}
		if err != nil {
			return l.expired(err)
		}
		kvs = make([]*mvccpb.KeyValue, len(entries))
		for i, r := range resp.Responses {
			if found := r.GetResponseRange().GetKvs(); len(found) > 0 {
				kvs[i] = found[0]
			}
		}
		return nil
	})
	return kvs, large, err
}

// unreadable notes a record that cannot be read, once.
func (l *listing) unreadable(ctx context.Context, e entry, revision int64, err error, p *snapshot.Page) {
	l.warn(ctx, l.keys.record(e.name), revision, "record cannot be read", err)
	if l.unread[e.name] || len(p.Unreadable) >= maxUnreadable {
		return
	}
	if l.unread == nil {
		l.unread = map[string]bool{}
	}
	l.unread[e.name] = true
	p.Unreadable = append(p.Unreadable, err)
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
