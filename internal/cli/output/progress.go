package output

import (
	"fmt"
	"strings"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// Progress is the progress of a save.
type Progress struct {
	read     transfer   // from etcd
	backends []transfer // in the order of their first events
}

type transfer struct {
	name        string
	done, total int64
	state       snapshotdv1.Snapshot_State // how it ended
}

// Add takes in an event.
func (p *Progress) Add(ev *snapshotdv1.WatchResponse) {
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

func (p *Progress) backend(name string) *transfer {
	for i := range p.backends {
		if p.backends[i].name == name {
			return &p.backends[i]
		}
	}
	p.backends = append(p.backends, transfer{name: name})
	return &p.backends[len(p.backends)-1]
}

// Line returns the progress on one line: bytes read from etcd, and the progress of each backend.
func (p *Progress) Line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "etcd %s  %s", gauge(p.read.percent()), Size(p.read.done))
	if p.read.total > 0 {
		fmt.Fprintf(&b, " of %s", Size(p.read.total))
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
		return Size(t.done)
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
