package upkeep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/snapshotd/snapshotd/journal/segment"
)

// sweepAge is much longer than a writer needs, because leftovers differ from data that is being written by their age
// alone. It is how old data without a manifest must be, and for how long a timeline must have been empty, before it
// is removed. A writer needs minutes.
const sweepAge = 24 * time.Hour

// Swept is the work of a sweep.
type Swept struct {
	Objects   int // data without a manifest
	Timelines int // documents of timelines without segments
}

// Sweep removes what writers and removers that died have left on the backends: data without a manifest, and the
// documents of timelines of the past that have no segments. These stay until this process has seen for a day that they
// have none: a replica may bring some. The live timeline keeps its own.
func (c *Copies) Sweep(ctx context.Context, live segment.Timeline, now time.Time) (done Swept, err error) {
	var errs []error
	for _, p := range c.Pruner.Places {
		if err := c.sweep(ctx, p, live, now, &done); err != nil {
			errs = append(errs, fmt.Errorf("sweep the journal on backend %s: %w", p.Segments.Name(), err))
		}
	}
	return done, errors.Join(errs...)
}

func (c *Copies) sweep(ctx context.Context, p Place, live segment.Timeline, now time.Time, done *Swept) error {
	timelines, err := p.timelines(ctx)
	if err != nil {
		return err
	}
	for _, t := range timelines {
		removed, left, err := p.Segments.Sweep(ctx, t, now.Add(-sweepAge))
		done.Objects += removed
		if err != nil {
			return err
		}
		if since := c.emptySince(bare{p.Segments.Name(), t}, left == 0 && t != live, now); since < sweepAge {
			continue
		}
		gone, err := p.Segments.SweepTimeline(ctx, t, now.Add(-sweepAge))
		if err != nil {
			return err
		}
		if gone {
			done.Timelines++
		}
	}
	return nil
}

// emptySince returns for how long this process has seen that a timeline is empty; 0 when it is not.
func (c *Copies) emptySince(b bare, empty bool, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	// It begins anew when somebody has brought a segment meanwhile.
	if !empty {
		delete(c.empty, b)
		return 0
	}
	if c.empty == nil {
		c.empty = map[bare]time.Time{}
	}
	if _, known := c.empty[b]; !known {
		c.empty[b] = now
	}
	return now.Sub(c.empty[b])
}
