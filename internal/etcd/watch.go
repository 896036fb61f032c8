package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/snapshotd/snapshotd/journal"
	"github.com/snapshotd/snapshotd/journal/segment"
)

// changes is the raw stream of a watch. The watch of etcd's client library would buffer without a bound what is not
// taken; here it stays in etcd, behind the flow control of the connection.
type changes struct {
	stream   etcdserverpb.Watch_WatchClient
	endpoint string
	why      func(error) string
	next     int64 // the revision that comes next; 0 before the first one
}

// everything is the range of all keys: from the smallest one, without an end.
var everything = []byte{0}

// Watch implements [journal.Member]. Responses are not fragmented: etcd's way to do it takes a time that grows with the
// square of their size. The stream ends when the member has lost its leader for a few seconds.
func (f *followed) Watch(ctx context.Context, from int64) (journal.Stream, error) {
	return f.watch(ctx, &etcdserverpb.WatchCreateRequest{Key: everything, RangeEnd: everything, StartRevision: from})
}

// watch begins a watch that ends with ctx.
func (f *followed) watch(ctx context.Context, req *etcdserverpb.WatchCreateRequest) (*changes, error) {
	w := &changes{endpoint: f.member.endpoint.url, why: f.conn.why}
	err := f.ask(ctx, "watch the keys", func(ctx context.Context) error {
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
		stream, err := etcdserverpb.NewWatchClient(f.member.conn).Watch(ctx)
		if err != nil {
			return err
		}
		w.stream = stream
		create := &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: req}
		if err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: create}); err != nil {
			_, err = stream.Recv() // it has the cause
			return err
		}
		resp, err := stream.Recv()
		switch {
		case err != nil:
			return err
		case resp.GetCanceled():
			return refusal(resp)
		case !resp.GetCreated():
			return errors.New("the first answer is not about the beginning of the watch")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// refusal is the error of a watch that etcd does not begin, or ends.
func refusal(resp *etcdserverpb.WatchResponse) error {
	if rev := resp.GetCompactRevision(); rev > 0 {
		return &journal.CompactedError{Revision: rev}
	}
	reason := resp.GetCancelReason()
	if _, text, ok := strings.Cut(reason, " desc = "); ok {
		reason = text
	}
	if reason == "" {
		reason = "etcd has ended the watch and gives no reason"
	}
	return rpctypes.Error(errors.New(reason))
}

// Next implements [journal.Stream].
func (w *changes) Next() ([]journal.Change, error) {
	for {
		resp, err := w.stream.Recv()
		if err == nil && resp.GetCanceled() {
			err = refusal(resp)
		}
		if _, ok := errors.AsType[*journal.CompactedError](err); ok {
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("watch the keys of %s: %s", w.endpoint, w.why(err))
		}
		if len(resp.GetEvents()) == 0 {
			continue // progress, of which revisions tell as much: none of them is left out
		}
		return w.group(resp.GetEvents(), time.Now())
	}
}

// group puts the events of a revision together, and makes sure that no revision is missing.
func (w *changes) group(events []*mvccpb.Event, arrived time.Time) ([]journal.Change, error) {
	var all []journal.Change
	for _, ev := range events {
		main := ev.GetKv().GetModRevision()
		if last := len(all) - 1; last < 0 || all[last].Main != main {
			if main <= 0 || w.next != 0 && main != w.next {
				return nil, fmt.Errorf("watch the keys of %s: revision %d comes where %d should be", w.endpoint, main, w.next)
			}
			all = append(all, journal.Change{Revision: segment.Revision{Main: main, Time: arrived}})
			w.next = main + 1
		}
		c := &all[len(all)-1]
		c.Records = append(c.Records, recordOf(ev, int64(len(c.Records))))
		if id := ev.GetKv().GetLease(); id != 0 {
			c.Leases = append(c.Leases, id)
			if ev.GetKv().GetVersion() == 1 {
				c.Made = append(c.Made, id)
			}
		}
	}
	return all, nil
}
