package limits

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// paceTime is how long a download may be slower than the least rate while another one waits. It is also the time that
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

// Pace is the pace of one download.
type Pace struct {
	taken atomic.Int64
	err   atomic.Pointer[snapshot.Error]
	done  chan struct{}
	ended sync.WaitGroup
}

// Begin follows a download that has its place. Once it is too slow, stop is called, and Err says why.
func (d *Downloads) Begin(cluster, name string, stop func()) *Pace {
	p := &Pace{done: make(chan struct{})}
	p.ended.Go(func() {
		tick := time.NewTicker(paceTime)
		defer tick.Stop()
		var before int64
		waited := d.others(cluster) > 0
		for {
			select {
			case <-tick.C:
			case <-p.done:
				return
			}
			now, others := p.taken.Load(), d.others(cluster)
			if least := d.rate.Load() * int64(paceTime.Seconds()); waited && others > 0 && now-before < least {
				p.err.Store(d.tooSlow(name, now-before, others))
				stop()
				return
			}
			before, waited = now, others > 0
		}
	})
	return p
}

func (d *Downloads) tooSlow(name string, bytes int64, others int) *snapshot.Error {
	return snapshot.ReasonSlowConsumer.New(
		"download %s: the caller took %d bytes a second while %d others wait, and at least %d are needed then", name,
		bytes/int64(paceTime.Seconds()), others, d.rate.Load()).
		Advise("download the rest, from the offset that was reached; limits.min_download_rate in the service's " +
			"configuration is the least")
}

// Took notes that the caller has taken bytes.
func (p *Pace) Took(bytes int) { p.taken.Add(int64(bytes)) }

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
