package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/snapshot"
)

const (
	// watchQueue is the number of etcd's responses that wait for a reader that is slower than etcd. When there are
	// more, the watch is ended, and another one goes on where the reader is.
	watchQueue = 8
	// watchPause is the pause before another attempt while etcd does not answer.
	watchPause = time.Second
)

// Changes yields the changes of the records after a position; after none from now on.
func (c *Catalog) Changes(ctx context.Context, after snapshot.Position) iter.Seq2[snapshot.Changes, error] {
	return func(yield func(snapshot.Changes, error) bool) {
		f := &following{Catalog: c, at: after, yield: yield}
		for !f.left {
			err := f.watch(ctx)
			e, ok := errors.AsType[*snapshot.Error](err)
			switch {
			case f.left:
			case ctx.Err() != nil:
				yield(snapshot.Changes{}, snapshot.Cancelled(ctx, "follow the catalog"))
				return
			case ok && e.Retry == 0:
				yield(snapshot.Changes{}, err)
				return
			case err != nil:
				f.wait(ctx, err)
			}
		}
	}
}

// following is one call of Changes under way.
type following struct {
	*Catalog
	at    snapshot.Position // up to which all changes were yielded; 0 before that is known
	etcd  uint64            // the id of the cluster that is watched
	began bool              // an element was yielded
	left  bool              // the reader wants no more
	down  bool              // etcd does not answer, and the log says so
	yield func(snapshot.Changes, error) bool
}

// wait waits while etcd does not answer. The log says it once, until etcd is back.
func (f *following) wait(ctx context.Context, err error) {
	if !f.down {
		f.down = true
		f.cfg.Logger.WarnContext(ctx, "catalog cannot be followed; watches catch up when it is back",
			"cluster", f.cfg.Cluster, "error", err)
	}
	_ = backoff.Wait(ctx, watchPause)
}

// watch yields the changes of one watch of etcd. It returns nil when the next watch is to go on at once.
func (f *following) watch(ctx context.Context) error {
	now, err := f.position(ctx)
	if err != nil {
		return err
	}
	if f.at.Revision == 0 {
		f.at = now
	}
	if err := broken(f.at, now); err != nil {
		return f.expired(err)
	}
	f.at.History = now.History
	client, err := f.cfg.Connect(ctx)
	if err != nil {
		return f.unavailable("follow the records", err)
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	responses := client.Watch(ctx, f.keys.records(), clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithRev(f.at.Revision+1), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	queue := queued(responses, cancel)
	defer func() {
		cancel()
		for range queue { // until the goroutine behind it has ended
		}
	}()
	for r := range queue {
		if r.Err() == nil && r.Header.ClusterId != 0 && r.Header.ClusterId != f.etcd {
			return nil // the client has reconnected to another etcd; the next watch returns the error
		}
		if err := f.take(ctx, r); err != nil || f.left {
			return err
		}
	}
	return nil
}

// queued hands responses on. When too many of them wait, it ends the watch, because its client would keep all of them
// in memory, and hands on those that wait.
func queued(responses clientv3.WatchChan, end func()) <-chan clientv3.WatchResponse {
	queue := make(chan clientv3.WatchResponse, watchQueue)
	go func() {
		defer close(queue)
		for r := range responses {
			select {
			case queue <- r:
			default:
				end()
				return
			}
		}
	}()
	return queue
}

// position returns where etcd, as a whole, is.
func (f *following) position(ctx context.Context) (now snapshot.Position, err error) {
	err = f.do(ctx, "follow", "read the revision", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		resp, err := client.Get(ctx, f.keys.lock(), clientv3.WithKeysOnly())
		if err == nil {
			f.etcd = resp.Header.ClusterId
			now = snapshot.Position{Revision: resp.Header.Revision, History: historyOf(resp.Header)}
		}
		return err
	})
	return now, err
}

// take yields the changes of a response, one revision at a time.
func (f *following) take(ctx context.Context, r clientv3.WatchResponse) error {
	switch err := r.Err(); {
	case isGone(err):
		return f.expired(err)
	case err != nil:
		return f.unavailable("follow the records", err)
	case r.Created:
		f.down = false
		if !f.began {
			f.give(snapshot.Changes{Position: f.at})
		}
		return nil
	case len(r.Events) == 0 && r.Header.Revision < f.at.Revision:
		return f.expired(fmt.Errorf("etcd is at revision %d: it was restored from a time before", r.Header.Revision))
	case len(r.Events) == 0:
		f.give(f.changesAt(r.Header.Revision))
		return nil
	}
	var all snapshot.Changes
	for _, ev := range r.Events {
		if ev.Kv.ModRevision != all.Revision {
			f.give(all)
			all = f.changesAt(ev.Kv.ModRevision)
		}
		ch, err := f.change(ctx, ev)
		if err != nil {
			return err
		}
		if ch.Before != nil || ch.After != nil {
			all.Records = append(all.Records, ch)
		}
	}
	f.give(all)
	return nil
}

func (f *following) changesAt(revision int64) snapshot.Changes {
	return snapshot.Changes{Position: snapshot.Position{Revision: revision, History: f.at.History}}
}

// give yields changes, unless there are none or the reader has left.
func (f *following) give(ch snapshot.Changes) {
	if ch.Revision == 0 || f.left {
		return
	}
	f.at, f.began, f.left = ch.Position, true, !f.yield(ch, nil)
}

// change returns the change of a record that an event of etcd shows.
func (f *following) change(ctx context.Context, ev *clientv3.Event) (ch snapshot.Change, err error) {
	before, err := f.before(ctx, ev)
	if err != nil {
		return ch, err
	}
	if before != nil {
		if ch.Before, err = f.decode(before); err != nil {
			f.warn(ctx, string(before.Key), before.ModRevision, "record cannot be read, nor followed", err)
		}
	}
	if ev.Type == clientv3.EventTypePut {
		if ch.After, err = f.decode(ev.Kv); err != nil {
			f.warn(ctx, string(ev.Kv.Key), ev.Kv.ModRevision, "record cannot be read, nor followed", err)
			return snapshot.Change{}, nil
		}
	}
	return ch, nil
}

// before returns a record as it was before an event; nil when there was none. etcd leaves it out when its revision was
// compacted meanwhile, and then the change is not known any more. etcd also leaves it out of events that come while it
// sets the watch up, so a missing one is read again.
func (f *following) before(ctx context.Context, ev *clientv3.Event) (before *mvccpb.KeyValue, err error) {
	if ev.PrevKv != nil || ev.IsCreate() {
		return ev.PrevKv, nil
	}
	err = f.do(ctx, "follow", "read a record as it was", func(ctx context.Context, client *clientv3.Client, _ bool) error {
		resp, err := client.Get(ctx, string(ev.Kv.Key), clientv3.WithRev(ev.Kv.ModRevision-1))
		if err != nil && !isGone(err) {
			return err
		}
		if err == nil && resp.Header.ClusterId == f.etcd && len(resp.Kvs) > 0 {
			before = resp.Kvs[0]
		}
		return nil
	})
	if err == nil && before == nil {
		err = f.expired(fmt.Errorf("%q as it was before revision %d is compacted", ev.Kv.Key, ev.Kv.ModRevision))
	}
	return before, err
}

func (f *following) expired(err error) error {
	return snapshot.ReasonWatchExpired.
		New("follow the catalog of cluster %q after revision %d", f.cfg.Cluster, f.at.Revision).
		Because(err).Advise("the changes since are not known any more; list, then watch anew without a resume token")
}
