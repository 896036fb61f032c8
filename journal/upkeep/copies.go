package upkeep

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
	"github.com/snapshotd/snapshotd/snapshot"
)

// Copies finds segments that are damaged, and brings to each backend what it lacks and another one has. It keeps in
// memory which segments are damaged: another process finds them again. All methods may be called at once from several
// goroutines, but for one Repair at a time.
type Copies struct {
	Pruner *Pruner // of the same places; a repair copies nothing that it would remove
	Budget int64   // bytes that one repair copies, about; 0 for [DefaultBudget]

	mu      sync.Mutex
	read    map[at]time.Time // when a segment was read back
	damaged map[at]error
	state   map[string]State // by backend
	empty   map[bare]time.Time
}

// DefaultBudget is how many bytes one repair copies, about: the rest waits for the next one.
const DefaultBudget = 256 << 20

// at is a segment on a backend.
type at struct {
	backend string
	segments.Ref
}

// State is how the copies on one backend are.
type State struct {
	Known   bool  // the journal was compared with that of other backends
	Lacking int64 // revisions that another backend has and this one lacks, since then
	Damaged int64 // segments that are damaged, as far as they were read
	Copied  int64 // segments that were copied there
}

// State returns how the copies on a backend are.
func (c *Copies) State(backend string) State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state[backend]
	for a := range c.damaged {
		if a.backend == backend {
			s.Damaged++
		}
	}
	return s
}

// Found notes a segment that was found to be damaged, or not to be trusted. It reports whether that is new.
func (c *Copies) Found(backend string, r segments.Ref, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.damaged == nil {
		c.damaged = map[at]error{}
	}
	_, known := c.damaged[at{backend, r}]
	c.damaged[at{backend, r}] = err
	return !known
}

// noteRead notes that a segment was read back, and whether it is good.
func (c *Copies) noteRead(backend string, r segments.Ref, now time.Time, good bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil {
		c.read = map[at]time.Time{}
	}
	c.read[at{backend, r}] = now
	if good {
		delete(c.damaged, at{backend, r})
	}
}

// isDamaged reports whether a segment is known to be damaged.
func (c *Copies) isDamaged(backend string, r segments.Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, is := c.damaged[at{backend, r}]
	return is
}

// forget forgets the segments of a backend that are not there any more: they were merged, pruned or replaced.
func (c *Copies) forget(backend string, there func(segments.Ref) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.read {
		if a.backend == backend && !there(a.Ref) {
			delete(c.read, a)
		}
	}
	for a := range c.damaged {
		if a.backend == backend && !there(a.Ref) {
			delete(c.damaged, a)
		}
	}
}

// Damage is a segment on a backend that is damaged, or not trusted.
type Damage struct {
	Backend string
	Segment segments.Ref
	Err     error
}

// Scrubbed is the work of a scrub.
type Scrubbed struct {
	Segments int // that were read
	Bytes    int64
	Damaged  []Damage
}

// Scrub reads a share of the segments of each backend, in percent, as they are stored, and compares them with their
// manifests: that needs no identity. Those that were not read for the longest time are the first; of those that this
// process has not read at all, some at random. The error is of backends that could not be read.
func (c *Copies) Scrub(ctx context.Context, share int, now time.Time) (done Scrubbed, errs []error) {
	for _, p := range c.Pruner.Places {
		if err := c.scrub(ctx, p, share, now, &done); err != nil {
			errs = append(errs, err)
		}
	}
	return done, errs
}

func (c *Copies) scrub(ctx context.Context, p Place, share int, now time.Time, done *Scrubbed) error {
	timelines, err := p.timelines(ctx)
	if err != nil {
		return err
	}
	var all []segments.Item
	there := map[segments.Ref]bool{}
	for _, t := range timelines {
		some, err := p.Segments.Of(ctx, t)
		if err != nil {
			return err
		}
		for _, item := range some {
			there[item.Ref] = true
		}
		all = append(all, some...)
	}
	c.forget(p.Segments.Name(), func(r segments.Ref) bool { return there[r] })
	for _, item := range c.due(p.Segments.Name(), all, share) {
		done.Segments, done.Bytes = done.Segments+1, done.Bytes+item.Size
		err := c.check(ctx, p.Segments, item.Ref, now)
		switch {
		case snapshot.IsDamage(err):
			done.Damaged = append(done.Damaged, Damage{p.Segments.Name(), item.Ref, err})
		case err != nil && !snapshot.IsNotFound(err): // else it was merged or pruned meanwhile
			return err
		}
	}
	return nil
}

// due returns a share of some segments, rounded up.
func (c *Copies) due(backend string, all []segments.Item, share int) []segments.Item {
	c.mu.Lock()
	defer c.mu.Unlock()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) //nolint:gosec // an order, and no secret
	slices.SortStableFunc(all, func(a, b segments.Item) int {
		return c.read[at{backend, a.Ref}].Compare(c.read[at{backend, b.Ref}])
	})
	return all[:(len(all)*share+99)/100]
}

// check reads a segment as it is stored, and notes the finding.
func (c *Copies) check(ctx context.Context, s *segments.Segments, r segments.Ref, now time.Time) error {
	m, err := s.Manifest(ctx, r)
	if err == nil {
		err = s.Check(ctx, m)
	}
	if damaged := snapshot.IsDamage(err); err == nil || damaged {
		c.noteRead(s.Name(), r, now, !damaged)
		if damaged {
			c.Found(s.Name(), r, err)
		}
	}
	return err
}

// span is consecutive revisions.
type span struct{ first, last int64 }

// union returns the revisions of some segments, in ascending order.
func union(all []segments.Ref) []span {
	spans := make([]span, 0, len(all))
	for _, r := range all {
		spans = append(spans, span{r.First, r.Last})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var joined []span
	for _, s := range spans {
		if n := len(joined); n > 0 && s.first <= joined[n-1].last+1 {
			joined[n-1].last = max(joined[n-1].last, s.last)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// without returns the revisions of some spans that are not in others. Both are in ascending order.
func without(all, others []span) (left []span) {
	for _, s := range all {
		for _, o := range others {
			if o.last < s.first || o.first > s.last {
				continue
			}
			if o.first > s.first {
				left = append(left, span{s.first, o.first - 1})
			}
			s.first = o.last + 1
		}
		if s.first <= s.last {
			left = append(left, s)
		}
	}
	return left
}

// size returns how many revisions there are in some spans.
func size(all []span) (n int64) {
	for _, s := range all {
		n += s.last - s.first + 1
	}
	return n
}

// bare is a timeline on a backend.
type bare struct {
	backend  string
	timeline segment.Timeline
}
