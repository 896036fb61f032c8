package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// showProgress draws the progress of a save until the returned function is called. It draws nothing where w is no
// terminal, and stops when the events end: a save does not need a watcher.
func showProgress(ctx context.Context, w io.Writer, c *client, req *snapshotdv1.SaveRequest) (stop func()) {
	line, ok := newStatusLine(w)
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		stream, err := c.Watch(ctx, &snapshotdv1.WatchRequest{Cluster: req.GetCluster(), RequestId: req.GetRequestId()})
		if err != nil {
			return
		}
		var p progress
		for {
			ev, err := stream.Recv()
			if err != nil {
				break
			}
			if ev.GetType() == snapshotdv1.WatchResponse_TYPE_POSITION {
				continue
			}
			p.add(ev)
			if line.due() {
				line.draw(p.line())
			}
		}
		line.clear()
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// progress is the progress of a save.
type progress struct {
	read     transfer   // from etcd
	backends []transfer // in the order of their first events
}

type transfer struct {
	name        string
	done, total int64
	state       snapshotdv1.Snapshot_State // how it ended
}

func (p *progress) add(ev *snapshotdv1.WatchResponse) {
	switch ev.GetType() {
	case snapshotdv1.WatchResponse_TYPE_PROGRESS:
		t := &p.read
		if ev.GetBackend() != "" {
			t = p.backend(ev.GetBackend())
		}
		t.done, t.total = ev.GetDoneBytes(), ev.GetTotalBytes()
	case snapshotdv1.WatchResponse_TYPE_STARTED, snapshotdv1.WatchResponse_TYPE_LOCATION_DONE:
		for _, l := range ev.GetSnapshot().GetLocations() {
			p.backend(l.GetBackend()).state = l.GetState()
		}
	}
}

func (p *progress) backend(name string) *transfer {
	for i := range p.backends {
		if p.backends[i].name == name {
			return &p.backends[i]
		}
	}
	p.backends = append(p.backends, transfer{name: name})
	return &p.backends[len(p.backends)-1]
}

// line returns the progress on one line: bytes read from etcd, and the progress of each backend.
func (p *progress) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "etcd %s  %s", gauge(p.read.percent()), size(p.read.done))
	if p.read.total > 0 {
		fmt.Fprintf(&b, " of %s", size(p.read.total))
	}
	for _, t := range p.backends {
		switch t.state {
		case snapshotdv1.Snapshot_STATE_READY:
			fmt.Fprintf(&b, "  %s done", t.name)
		case snapshotdv1.Snapshot_STATE_FAILED:
			fmt.Fprintf(&b, "  %s failed", t.name)
		default:
			fmt.Fprintf(&b, "  %s %s", t.name, t.amount())
		}
	}
	return b.String()
}

// amount returns the progress of a backend: a share, once the size is known, which depends on the compression.
func (t transfer) amount() string {
	if t.total <= 0 {
		return size(t.done)
	}
	return fmt.Sprintf("%d%%", min(t.percent(), 99)) // it is done when it is durable
}

// percent is at most 100: the total is the size that etcd announced, and it may send more.
func (t transfer) percent() int {
	if t.total <= 0 {
		return 0
	}
	return int(min(100, 100*t.done/t.total))
}
