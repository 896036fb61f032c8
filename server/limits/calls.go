package limits

import (
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Calls counts the calls under way, and the saves of the last minute.
type Calls struct {
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	streams int            // of all principals
	of      map[string]use // by principal; nobody without a call is in it
	saves   map[string]bucket
}

// use is what one principal has under way.
type use struct{ streams, others int }

// bucket is how many saves can begin at once, at a time; more come by the minute.
type bucket struct {
	left float64
	at   time.Time
}

// NewCalls returns counters that begin at zero.
func NewCalls(l Limits) *Calls {
	return &Calls{limits: l, now: time.Now, of: map[string]use{}, saves: map[string]bucket{}}
}

// Begin notes that a principal begins a call, until end is called. Streams, which last as long as their callers want,
// are counted apart from other calls: watchers never keep anybody from saving.
func (c *Calls) Begin(principal string, stream bool) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.of[principal]
	n, kind := &u.others, "calls"
	if stream {
		n, kind = &u.streams, "streams"
	}
	switch {
	case *n >= c.limits.CallsPerPrincipal:
		return nil, reached("calls_per_principal", "%s has %d %s under way, and no more are allowed", principal, *n, kind)
	case stream && c.streams >= c.limits.Streams:
		return nil, reached("streams", "there are %d streams under way, and no more are allowed", c.streams)
	}
	*n++
	if stream {
		c.streams++
	}
	c.of[principal] = u
	return func() { c.end(principal, stream) }, nil
}

func (c *Calls) end(principal string, stream bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.of[principal]
	if stream {
		u.streams--
		c.streams--
	} else {
		u.others--
	}
	c.of[principal] = u
	if u == (use{}) {
		delete(c.of, principal)
	}
}

// Save notes that a caller begins a save of a cluster.
func (c *Calls) Save(cluster string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	most, now := float64(c.limits.SavesPerMinute), c.now()
	b, known := c.saves[cluster]
	if !known {
		b.left = most
	}
	if since := now.Sub(b.at); known && since > 0 {
		b.left = min(most, b.left+most*since.Minutes())
	}
	b.at = now
	defer func() { c.saves[cluster] = b }()
	if b.left < 1 {
		err := reached("saves_per_minute", "cluster %q was to be saved %d times within a minute, and no more are allowed",
			cluster, c.limits.SavesPerMinute)
		err.Retry = max(time.Second, time.Duration((1-b.left)/most*float64(time.Minute)))
		return err
	}
	b.left--
	return nil
}

// IsLimit reports whether an error says that a limit is reached.
func IsLimit(err error) bool {
	return err != nil && snapshot.ReasonOf(err) == snapshot.ReasonLimitReached
}
