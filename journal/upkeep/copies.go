package upkeep

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
	"github.com/snapshotd/snapshotd/repository/segments"
)

// Copies finds segments that are damaged, and brings to each backend what it lacks and another one has. It keeps in
// memory which segments are damaged: another process finds them again. All methods may be called at once from several
// goroutines; repairs take turns.
type Copies struct {
	Pruner *Pruner       // of the same places; a repair copies nothing that it would remove
	Budget int64         // bytes that one repair copies, about; [DefaultBudget] when 0, another one is for tests
	Time   time.Duration // for which one repair copies, about; [DefaultTime] when 0, another one is for tests

	findings findings

	mu    sync.Mutex
	turn  chan struct{}    // of a repair; holds one
	state map[string]State // by backend
	empty map[bare]time.Time
}

// DefaultBudget and DefaultTime are how many bytes one repair copies, and for how long, about: the rest waits for the
// next one, and the merges and prunes of the journal come between.
const (
	DefaultBudget = 256 << 20
	DefaultTime   = 3 * time.Minute
)

// State is how the copies on one backend are, as this process has seen them in its term: each replica that leads looks
// for itself.
type State struct {
	Known   bool  // the journal was compared with that of other backends
	Lacking int64 // revisions that another backend has and this one lacks, since then
	Damaged int64 // segments that are damaged, as far as they were read; without those whose revisions others there hold
	Copied  int64 // segments that were copied there
}

// State returns how the copies on a backend are.
func (c *Copies) State(backend string) State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state[backend]
	s.Damaged = c.findings.damaged(backend)
	return s
}

// Forget forgets how the copies were: another replica has led since. The segments that were found to be damaged are
// looked at again by each repair.
func (c *Copies) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for backend, s := range c.state {
		c.state[backend] = State{Copied: s.Copied}
	}
	c.empty = nil
}

// Found notes a segment that was found to be damaged, or not to be trusted. It reports whether that is new.
func (c *Copies) Found(backend string, r segments.Ref, err error) bool {
	return c.findings.found(at{backend, r}, err)
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
// process has not read at all, some at random. The errors are of backends, and of segments that could not be read:
// these do not keep the others from being read.
func (c *Copies) Scrub(ctx context.Context, share int, now time.Time) (done Scrubbed, errs []error) {
	for _, p := range c.Pruner.Places {
		all, err := c.list(ctx, p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, c.scrub(ctx, p, c.due(p.Segments.Name(), all, share), now, &done)...)
	}
	return done, errs
}

// list lists all segments of a place.
func (c *Copies) list(ctx context.Context, p Place) (all []segments.Item, err error) {
	timelines, err := p.timelines(ctx)
	if err != nil {
		return nil, err
	}
	there := map[segments.Ref]bool{}
	for _, t := range timelines {
		some, err := p.Segments.Of(ctx, t)
		if err != nil {
			return nil, err
		}
		for _, item := range some {
			there[item.Ref] = true
		}
		all = append(all, some...)
	}
	// Segments that are not listed any more were merged or pruned, and their findings would grow for ever.
	c.findings.forget(p.Segments.Name(), func(r segments.Ref) bool { return there[r] })
	return all, nil
}

// scrub reads some segments of a place.
func (c *Copies) scrub(
	ctx context.Context, p Place, due []segments.Item, now time.Time, done *Scrubbed,
) (errs []error) {
	row := 0
	for i, item := range due {
		got, err := c.findings.look(ctx, p.Segments, item.Ref, now)
		if ctx.Err() != nil {
			return append(errs, err)
		}
		switch got {
		case unreadable:
			errs = append(errs, err)
			if row++; row == inRow {
				return append(errs, fmt.Errorf("backend %s does not give %d segments in a row: %d others were not read",
					p.Segments.Name(), row, len(due)-i-1))
			}
		case damaged:
			if c.findings.last(at{p.Segments.Name(), item.Ref}).spare.IsZero() {
				done.Damaged = append(done.Damaged, Damage{p.Segments.Name(), item.Ref, err})
			}
			fallthrough
		case good:
			done.Segments, done.Bytes, row = done.Segments+1, done.Bytes+item.Size, 0
		case absent:
		}
	}
	return errs
}

// due returns a share of some segments, rounded up.
func (c *Copies) due(backend string, all []segments.Item, share int) []segments.Item {
	looked := make(map[segments.Ref]time.Time, len(all))
	for _, item := range all {
		looked[item.Ref] = c.findings.last(at{backend, item.Ref}).looked
	}
	// The sort is stable, so those that were never read stay shuffled: replicas, and restarts, do not begin with the same
	// ones.
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) //nolint:gosec // an order, and no secret
	slices.SortStableFunc(all, func(a, b segments.Item) int { return looked[a.Ref].Compare(looked[b.Ref]) })
	return all[:(len(all)*share+99)/100]
}

// bare is a timeline on a backend.
type bare struct {
	backend  string
	timeline segment.Timeline
}
