// Package progress counts the bytes of several transfers and reports them by time, also while nothing moves: whoever is
// shown them sees that something is still at work.
package progress

import (
	"context"
	"sync"
	"time"
)

// Tracker reports the transfers of one undertaking, from one goroutine at a time. A transfer never goes back.
type Tracker struct {
	busy, idle time.Duration
	report     func(name string, done, total int64)

	reporting sync.Mutex // held while report is called, so that the reports of a transfer stay in order
	mu        sync.Mutex // guards the transfers
	all       []*Transfer
}

// Transfer is the way of bytes to one place, or from it.
type Transfer struct {
	tracker     *Tracker
	name        string
	done, total int64
	changed     bool
	over        bool
}

// New returns a tracker that reports a transfer each busy while bytes move, and each idle while none do. idle is a
// multiple of busy.
func New(busy, idle time.Duration, report func(name string, done, total int64)) *Tracker {
	return &Tracker{busy: busy, idle: idle, report: report}
}

// Transfer adds a transfer; total is 0 when it is not known.
func (t *Tracker) Transfer(name string, total int64) *Transfer {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := &Transfer{tracker: t, name: name, total: total, changed: true}
	t.all = append(t.all, x)
	return x
}

// Start reports by time until the returned function is called, which waits for the last report to end.
func (t *Tracker) Start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(t.busy)
		defer tick.Stop()
		for n := int64(1); ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				t.tell(n%int64(t.idle/t.busy) == 0)
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// Report reports all transfers that are not over, at once.
func (t *Tracker) Report() { t.tell(true) }

// tell reports the transfers that have changed, or all.
func (t *Tracker) tell(all bool) {
	t.reporting.Lock()
	defer t.reporting.Unlock()
	t.mu.Lock()
	var due []Transfer
	for _, x := range t.all {
		if !x.over && (all || x.changed) {
			x.changed = false
			due = append(due, *x)
		}
	}
	t.mu.Unlock()
	for _, x := range due {
		t.report(x.name, x.done, x.total)
	}
}

// Add counts further bytes.
func (x *Transfer) Add(n int64) {
	x.change(func() { x.done += n })
}

// Set says how many bytes there are so far. A lower number than before came late, and is ignored.
func (x *Transfer) Set(done int64) {
	x.change(func() { x.done = max(x.done, done) })
}

// SetTotal says how many bytes there will be.
func (x *Transfer) SetTotal(total int64) {
	x.change(func() { x.total = total })
}

func (x *Transfer) change(fn func()) {
	x.tracker.mu.Lock()
	defer x.tracker.mu.Unlock()
	was := [2]int64{x.done, x.total}
	fn()
	x.changed = x.changed || was != [2]int64{x.done, x.total}
}

// Far returns how many bytes there are so far, and how many there will be.
func (x *Transfer) Far() (done, total int64) {
	x.tracker.mu.Lock()
	defer x.tracker.mu.Unlock()
	return x.done, x.total
}

// End ends the transfer: it is not reported any more, whatever is counted late.
func (x *Transfer) End() {
	x.tracker.reporting.Lock() // no report of it is under way when End returns
	defer x.tracker.reporting.Unlock()
	x.change(func() { x.over = true })
}
