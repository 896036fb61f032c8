package output

import (
	"fmt"
	"strings"
	"time"

	snapshotdv1 "github.com/snapshotd/snapshotd/proto/snapshotd/v1"
)

// redrawInterval is how often the line of a save is drawn though no event has come.
const redrawInterval = 500 * time.Millisecond

// ShowSave draws the progress of a save, whose events next returns, until next returns an error. It draws by time, too:
// the line says what the save waits for, and for how long.
func (l *StatusLine) ShowSave(next func() (*snapshotdv1.WatchResponse, error)) {
	events := make(chan *snapshotdv1.WatchResponse)
	go func() {
		defer close(events) // which ends the loop below
		for ev, err := next(); err == nil; ev, err = next() {
			events <- ev
		}
	}()
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	defer l.Clear()
	var p *Progress
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return
			}
			if ev.GetType() == snapshotdv1.WatchResponse_TYPE_POSITION {
				continue
			}
			if p == nil {
				p = &Progress{}
			}
			if p.Add(ev, time.Now()); !l.Due() {
				continue
			}
		case <-tick.C:
		}
		if p != nil {
			l.Draw(p.Line(time.Now()))
		}
	}
}

// Progress is the progress of a save.
type Progress struct {
	read     transfer   // from etcd
	backends []transfer // in the order of their first events
	phase    snapshotdv1.WatchResponse_Phase
	waits    string    // for that
	since    time.Time // when it began to
}

type transfer struct {
	name        string
	done, total int64
	state       snapshotdv1.Snapshot_State // how it ended
}

// Add takes in an event, which has come at a time.
func (p *Progress) Add(ev *snapshotdv1.WatchResponse, at time.Time) {
	if ev.GetPhase() != snapshotdv1.WatchResponse_PHASE_UNSPECIFIED {
		p.phase = ev.GetPhase()
	}
	defer func() {
		if waits := p.waitsFor(); waits != p.waits {
			p.waits, p.since = waits, at
		}
	}()
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

// waitsFor returns what the save waits for; empty when an older service does not tell.
func (p *Progress) waitsFor() string {
	switch p.phase {
	case snapshotdv1.WatchResponse_PHASE_WAITING:
		return "waiting for saves of other clusters"
	case snapshotdv1.WatchResponse_PHASE_READING:
		if p.read.done == 0 {
			return "waiting for etcd"
		}
		return "reading etcd"
	case snapshotdv1.WatchResponse_PHASE_INSPECTING:
		return "inspecting"
	case snapshotdv1.WatchResponse_PHASE_COMPRESSING:
		return "compressing"
	case snapshotdv1.WatchResponse_PHASE_STORING:
		var names []string
		for _, t := range p.backends {
			if t.state != snapshotdv1.Snapshot_STATE_READY && t.state != snapshotdv1.Snapshot_STATE_FAILED {
				names = append(names, t.name)
			}
		}
		if len(names) == 0 {
			return "recording"
		}
		return "waiting for " + strings.Join(names, ", ")
	}
	return ""
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

// Line returns the progress on one line: bytes read from etcd, the progress of each backend, and what the save waits
// for.
func (p *Progress) Line(now time.Time) string {
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
	if p.waits != "" {
		fmt.Fprintf(&b, "  %s %v", p.waits, now.Sub(p.since).Truncate(time.Second))
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
