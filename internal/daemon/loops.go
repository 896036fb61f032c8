package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/snapshot"
)

// refreshRetry is how soon the catalog is asked again when it did not answer.
const refreshRetry = 15 * time.Second

// deliverPause is how long it takes at most until a replica sees that it keeps a snapshot.
const deliverPause = 15 * time.Second

// run starts a cluster's loops in wg. They end with ctx.
func (c *cluster) run(ctx context.Context, wg *sync.WaitGroup) {
	loop := schedule.New(schedule.Config{
		Interval:  c.interval,
		Lead:      c.lead,
		Reconcile: c.reconcile,
		Repair:    c.Repair,
		Runs: []schedule.Runs{
			{Cluster: c.Name(), Schedules: c.schedules, Save: c.Save, Ran: c.ran},
			{Cluster: c.Name(), Schedules: c.scrubs, Ran: c.ran},
		},
		Wake:    c.Landed(),
		Leading: func(ctx context.Context, leading bool) { c.telemetry.Leader(ctx, c.Name(), leading) },
		Logger:  c.log,
	})
	wg.Go(func() { loop.Run(ctx) })
	wg.Go(func() { c.refresh(ctx) })
	wg.Go(func() { c.deliver(ctx) })
}

// ran counts a run of a schedule.
func (c *cluster) ran(ctx context.Context, name string, due time.Time, r schedule.Result) {
	c.telemetry.Ran(ctx, c.Name(), name, string(r), due, r != schedule.ResultFailed)
}

// deliver brings what no backend took to one that does, when it is due: each replica has its own.
func (c *cluster) deliver(ctx context.Context) {
	for {
		next, err := c.Deliver(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "snapshot that is kept here not delivered", "retry_after", deliverPause, "error", err)
		}
		wait := deliverPause
		if err == nil && !next.IsZero() {
			wait = max(time.Second, min(wait, time.Until(next)))
		}
		if backoff.Wait(ctx, wait) != nil {
			return
		}
	}
}

// reconcile is a Reconcile of all backends whose error is that of any of them.
func (c *cluster) reconcile(ctx context.Context) error {
	reports, err := c.Reconcile(ctx, snapshot.ReconcileRequest{})
	errs := []error{err}
	var healthy []string
	for _, r := range reports {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("backend %q was not reconciled", r.Backend)) // why is in the log already
		} else {
			healthy = append(healthy, r.Backend)
		}
	}
	if err == nil {
		errs = append(errs, c.prune(ctx, healthy))
	}
	return errors.Join(errs...)
}

// prune applies the retention of the backends that a reconcile has just been through: what the catalog says of them is
// true. A backend that is down does not keep the others from being pruned.
func (c *cluster) prune(ctx context.Context, backends []string) error {
	if !c.Retains() || len(backends) == 0 {
		return nil
	}
	decisions, err := c.Prune(ctx, snapshot.PruneRequest{Backends: backends})
	errs := []error{err}
	for _, d := range decisions {
		if d.Err != nil {
			errs = append(errs, fmt.Errorf("prune %s: %w", d.Name, d.Err))
		}
	}
	return errors.Join(errs...)
}

// refresh learns from the catalog which snapshot was the last good one, at start and on the interval: another replica
// may have taken it, or this one before it was started anew.
func (c *cluster) refresh(ctx context.Context) {
	for {
		next := c.interval
		until := time.Now().Add(snapshot.ClockTolerance) // what says that it is later was taken by a wrong clock
		page, err := c.List(ctx, snapshot.Query{States: []snapshot.State{snapshot.StateReady}, Until: until, PageSize: 1})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.log.WarnContext(ctx, "read the catalog", "retry_after", refreshRetry, "error", err)
			next = min(next, refreshRetry)
		case len(page.Records) > 0:
			c.telemetry.LastSuccess(ctx, &page.Records[0].Snapshot)
		}
		if backoff.Wait(ctx, next) != nil {
			return
		}
	}
}
