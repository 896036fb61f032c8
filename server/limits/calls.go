package limits

import (
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/snapshot"
)

// Kind is a kind of calls. Each is counted apart, so that those of one kind never keep anybody from another.
type Kind int

// The kinds.
const (
	Short  Kind = iota // ends by itself
	Stream             // lasts as long as its caller wants: Watch, Download and Verify
	Open               // a stream for which no caller needs to be known: of health and reflection
	kinds
)

func (k Kind) String() string {
	return [kinds]string{"calls", "streams", "streams of health and reflection"}[k]
}

// Calls counts the calls under way, and the saves of the last minute.
type Calls struct {
	limits Limits
	now    func() time.Time

	mu    sync.Mutex
	all   use
	of    map[string]use // by principal; nobody without a call is in it
	saves map[string]bucket
}

// use is what is under way of each kind.
type use [kinds]int

// bucket is how many saves can begin at once, at a time; more come by the minute.
type bucket struct {
	left float64
	at   time.Time
}

// NewCalls returns counters that begin at zero.
func NewCalls(l Limits) *Calls {
	return &Calls{limits: l, now: time.Now, of: map[string]use{}, saves: map[string]bucket{}}
}

// Set changes the limits. What is under way beyond them goes on.
func (c *Calls) Set(l Limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = l
}

// Begin notes that a principal begins a call, until end is called.
func (c *Calls) Begin(principal string, kind Kind) (end func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of[principal][kind]
	switch {
	case n >= c.limits.CallsPerPrincipal:
		return nil, reached("calls_per_principal", "%s has %d %s under way, and no more are allowed", principal, n, kind)
	case kind != Short && c.all[kind] >= c.limits.Streams:
		return nil, reached("streams", "there are %d %s under way, and no more are allowed", c.all[kind], kind)
	}
	c.add(principal, kind, 1)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.add(principal, kind, -1)
	}, nil
}

// add counts calls. c.mu is held.
func (c *Calls) add(principal string, kind Kind, n int) {
	u := c.of[principal]
	u[kind] += n
	c.all[kind] += n
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
