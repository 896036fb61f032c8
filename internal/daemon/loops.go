package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/schedule"
)

// refreshRetry is the pause after which a catalog that did not answer is read again.
const refreshRetry = 15 * time.Second

// run starts a cluster's loops in wg. They end with ctx.
func (c *managed) run(ctx context.Context, wg *sync.WaitGroup) {
	var own *schedule.Own
	if c.HasLocal() {
		own = &schedule.Own{Reconcile: c.MaintainLocal, Repair: c.RepairLocal, Scrubs: c.localScrubs}
	}
	loop := schedule.New(schedule.Config{
		Cluster:   c.Name(),
		Interval:  c.interval,
		Lead:      c.lead,
		Reconcile: c.Maintain,
		Repair:    c.Repair,
		Runs: []schedule.Runs{
			{Cluster: c.Name(), Schedules: c.schedules, Save: c.Save, Ran: c.ran, Due: c.due},
			{Cluster: c.Name(), Schedules: c.scrubs, Ran: c.ran, Due: c.due},
		},
		Wake:    c.SaveEnded(),
		Own:     own,
		Leading: func(ctx context.Context, leading bool) { c.telemetry.Leader(ctx, c.Name(), leading) },
		Logger:  c.log,
	})
	wg.Go(func() { loop.Run(ctx) })
	wg.Go(func() { c.refresh(ctx) })
	wg.Go(func() { c.KeepDelivering(ctx) })
	if c.journal != nil {
		wg.Go(func() { c.journal.Run(ctx) })
	}
}

// ran counts a run of a schedule.
func (c *managed) ran(ctx context.Context, name string, due time.Time, r schedule.Result) {
	c.telemetry.Ran(ctx, c.Name(), name, string(r), due, r != schedule.ResultFailed)
}

// due notes when a schedule runs next.
func (c *managed) due(ctx context.Context, name string, due time.Time) {
	c.telemetry.Due(ctx, c.Name(), name, due)
}

// refresh reads the time of the last READY snapshot from the catalog, at start and on the interval: another replica may
// have taken it, or this one before a restart.
func (c *managed) refresh(ctx context.Context) {
	for {
		next := c.interval
		last, err := c.LastReady(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.log.WarnContext(ctx, "read the catalog", "retry_after", refreshRetry, "error", err)
			next = min(next, refreshRetry)
		case last != nil:
			c.telemetry.LastSuccess(ctx, last)
		}
		if backoff.Wait(ctx, next) != nil {
			return
		}
	}
}
