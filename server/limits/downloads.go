package limits

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// paceTime is how long a caller may be slower than the least rate while another one waits. It is also the time that
// another one has to wait before that counts: opening a snapshot takes time, too.
const paceTime = 20 * time.Second

// Downloads ends downloads that are read slowly while others wait for their place. A cluster reads few at a time, and a
// caller that takes some kilobytes a second could keep everybody else out for hours.
type Downloads struct {
	rate atomic.Int64 // bytes per second

	mu      sync.Mutex
	waiting map[string]int // by cluster
}

// NewDownloads returns downloads with a least rate.
func NewDownloads(l Limits) *Downloads {
	d := &Downloads{waiting: map[string]int{}}
	d.Set(l)
	return d
}

// Set changes the least rate.
func (d *Downloads) Set(l Limits) { d.rate.Store(l.MinDownloadRate) }

// Wait notes that a download waits for its place, until it has it.
func (d *Downloads) Wait(cluster string) (over func()) {
	d.add(cluster, 1)
	return sync.OnceFunc(func() { d.add(cluster, -1) })
}

func (d *Downloads) add(cluster string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting[cluster] += n; d.waiting[cluster] == 0 {
		delete(d.waiting, cluster)
	}
}

func (d *Downloads) others(cluster string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting[cluster]
}

// Pace is the pace at which the caller of one download takes it. The time in which the backend is waited for does not
// count: that is no fault of the caller's.
type Pace struct {
	err   atomic.Pointer[snapshot.Error]
	done  chan struct{}
	ended sync.WaitGroup

	mu    sync.Mutex // guards the following fields
	took  taken
	since time.Time // when the sending under way began; zero without one
}

// taken is what a caller has taken, and in how much time.
type taken struct {
	bytes int64
	time  time.Duration
}

// rate returns how many bytes a second were taken until now; false when the backend was waited for most of the time.
func (t taken) rate(now taken) (perSecond int64, known bool) {
	sending := now.time - t.time
	if sending < paceTime/2 {
		return 0, false
	}
	return int64(float64(now.bytes-t.bytes) / sending.Seconds()), true
}

// Begin follows a download that has its place. Once its caller is too slow, stop is called, and Err says why.
func (d *Downloads) Begin(cluster, name string, stop func()) *Pace {
	p := &Pace{done: make(chan struct{})}
	p.ended.Go(func() {
		tick := time.NewTicker(paceTime)
		defer tick.Stop()
		var before taken
		waited := d.others(cluster) > 0
		for {
			select {
			case <-tick.C:
			case <-p.done:
				return
			}
			now, others := p.soFar(), d.others(cluster)
			if rate, known := before.rate(now); known && waited && others > 0 && rate < d.rate.Load() {
				p.err.Store(d.tooSlow(name, rate, others))
				stop()
				return
			}
			before, waited = now, others > 0
		}
	})
	return p
}

func (d *Downloads) tooSlow(name string, rate int64, others int) *snapshot.Error {
	return snapshot.ReasonSlowConsumer.New(
		"download %s: the caller took %d bytes a second while %d others wait, and at least %d are needed then", name,
		rate, others, d.rate.Load()).
		Advise("download the rest, from the offset that was reached; limits.min_download_rate in the service's " +
			"configuration is the least")
}

// Send sends bytes to the caller, who has taken them when send returns without an error.
func (p *Pace) Send(bytes int, send func() error) error {
	p.mu.Lock()
	p.since = time.Now()
	p.mu.Unlock()
	err := send()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took.time += time.Since(p.since)
	p.since = time.Time{}
	if err == nil {
		p.took.bytes += int64(bytes)
	}
	return err
}

func (p *Pace) soFar() taken {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.took
	if !p.since.IsZero() {
		now.time += time.Since(p.since)
	}
	return now
}

// Err returns why the download was stopped; nil when it was not.
func (p *Pace) Err() error {
	if err := p.err.Load(); err != nil {
		return err
	}
	return nil
}

// End ends the following of a download. It is called once.
func (p *Pace) End() {
	close(p.done)
	p.ended.Wait()
}
