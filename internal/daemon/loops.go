package daemon

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/schedule"
	"github.com/snapshotd/snapshotd/server"
	"github.com/snapshotd/snapshotd/server/status"
	"github.com/snapshotd/snapshotd/snapshot"
)

// refreshRetry is the pause after which a catalog that did not answer is read again.
const refreshRetry = 15 * time.Second

// end waits for the loops of a cluster that was stopped, and for its predecessor, and closes what follows.
func (c *managed) end(ctx context.Context, log *slog.Logger) {
	c.ending.Do(func() {
		if c.begun != nil {
			<-c.begun
		}
		c.loops.Wait()
		if c.after != nil {
			<-c.after
		}
		c.directory.close(ctx, log)
		close(c.ended)
	})
}

// The loops of so many clusters begin at a time. If those of some thousand began at once, their requests would wait for
// each other until they are given up, and made again. An etcd that does not answer keeps no other cluster for long.
const (
	startsPerCPU  = 16
	startPatience = 3 * time.Second
)

// begin starts the loops of a cluster when it is its turn, which ends when its catalog was read once. run is the loop
// of the leader.
func (c *managed) begin(ctx context.Context, run func(context.Context)) {
	j := c.queues.starts.Join(c.Name())
	defer j.End()
	select {
	case <-j.Turn():
	case <-ctx.Done():
		return
	}
	c.loops.Go(func() { run(ctx) })
	const looks = 2 // at the catalog, each of which counts the first time
	looked := make(chan struct{}, looks)
	// Once each: a loop that comes round again while the other one is slow must not end the wait for both.
	delivered, reread := sync.OnceFunc(func() { looked <- struct{}{} }), sync.OnceFunc(func() { looked <- struct{}{} })
	deliver := backoff.Repeat(ctx, &c.loops, 0, func(ctx context.Context) time.Duration {
		defer delivered()
		return c.deliver(ctx)
	})
	c.wakeDelivery.Store(&deliver)
	refresh := backoff.Repeat(ctx, &c.loops, 0, func(ctx context.Context) time.Duration {
		defer reread()
		pause := c.refresh(ctx)
		c.judge(ctx)
		return pause
	})
	c.changes.wake.Store(&refresh)
	// Whoever is late goes on beside the others; only its place is given to the next one.
	late := time.NewTimer(startPatience)
	defer late.Stop()
	for range looks {
		select {
		case <-looked:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// run makes the loops of a cluster begin, and its metrics. They end with ctx. Metrics of the cluster that it takes the
// place of, if there was one, go on.
func (c *managed) run(ctx context.Context, before *managed) {
	c.telemetry.AddCluster(ctx, c.Name(), c.BackendNames())
	if c.store.Encrypted && !c.store.Decrypts {
		c.telemetry.Unprovable(c.Name())
	}
	c.telemetry.Leader(ctx, c.Name(), false)
	c.telemetry.AddCertificate(c.Name(), c.certs.first)
	c.telemetry.AddRooms(c.Name(), c.rooms())
	if before == nil {
		c.telemetry.Judged(ctx, c.Name(), string(status.Unknown), verdicts)
	}
	for _, sch := range slices.Concat(c.scrubs, c.schedules) {
		if before == nil || !before.runs(sch.Name) {
			c.telemetry.AddSchedule(ctx, c.Name(), sch.Name,
				string(schedule.ResultSuccess), string(schedule.ResultPartial), string(schedule.ResultFailed))
		}
	}
	for _, sch := range c.schedules {
		c.telemetry.Interval(ctx, c.Name(), sch.Name, sch.Spec.Pause(time.Now()))
	}
	// Directories of this node are seen from here alone, whoever leads.
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
			{Schedules: c.schedules, Save: c.Save, Disown: c.Disown, None: c.none, Ran: c.ran, Due: c.due},
			{Schedules: c.scrubs, Ran: c.ran, Due: c.due},
		},
		Wake:    c.RepairWanted(),
		Own:     own,
		Work:    &c.work,
		Leading: func(ctx context.Context, leading bool) { c.telemetry.Leader(ctx, c.Name(), leading) },
		Logger:  c.log,
	})
	c.loops.Go(func() { c.begin(ctx, loop.Run) })
	c.startJournal(ctx)
}

// runs reports whether a cluster has a schedule or a scrub of a name.
func (c *managed) runs(name string) bool {
	return slices.ContainsFunc(slices.Concat(c.scrubs, c.schedules), func(s schedule.Schedule) bool {
		return s.Name == name
	})
}

// verdicts are the values of the label of the metric.
var verdicts = []string{string(status.Safe), string(status.Attention), string(status.NotSafe), string(status.Unknown)}

// recordVerdict records the verdict on the cluster, as ClusterService would give it.
func (c *managed) recordVerdict(ctx context.Context) {
	v := status.Unknown
	defer func() {
		if p := recover(); p != nil { // status and the console survive it as well
			c.log.ErrorContext(ctx, "the cluster could not be judged", "panic", p, "stack", string(debug.Stack()))
		}
		if ctx.Err() == nil {
			c.telemetry.Judged(ctx, c.Name(), string(v), verdicts)
		}
	}()
	v = server.Verdict(ctx, c, c)
}

// none reports whether the catalog has no snapshot that could be restored.
func (c *managed) none(ctx context.Context) (bool, error) {
	page, err := c.List(ctx, snapshot.Query{
		States: []snapshot.State{snapshot.StateReady, snapshot.StatePartial}, PageSize: 1,
	})
	return err == nil && len(page.Records) == 0, err
}

// ran counts a run of a schedule.
func (c *managed) ran(ctx context.Context, name string, due time.Time, r schedule.Result) {
	c.telemetry.Ran(ctx, c.Name(), name, string(r), due, r != schedule.ResultFailed)
}

// due notes when a schedule runs next.
func (c *managed) due(ctx context.Context, name string, begins time.Time) {
	c.telemetry.Due(ctx, c.Name(), name, begins)
}

// refresh reads from the catalog, at start and on the interval, how the last saves and runs have ended: another replica
// may have made them, or this one before a restart. It also writes there what this one has found. It returns the pause
// until the next time.
func (c *managed) refresh(ctx context.Context) time.Duration {
	if err := c.noting.write(ctx, c.catalog.AmendReconciled); err != nil && ctx.Err() == nil {
		c.log.WarnContext(ctx, "what a reconcile has found is not noted for the other replicas yet", "error", err)
	}
	err := errors.Join(c.refreshSaves(ctx), c.refreshRuns(ctx))
	if err != nil && ctx.Err() == nil {
		c.log.WarnContext(ctx, "read the catalog", "retry_after", refreshRetry, "error", err)
		return min(c.interval(), refreshRetry)
	}
	return c.interval()
}

// refreshSaves reads the last READY snapshot and the end of the last save.
func (c *managed) refreshSaves(ctx context.Context) error {
	ready, err := c.last(ctx, snapshot.StateReady)
	if err != nil {
		return err
	}
	last, err := c.last(ctx, endedStates...)
	if err != nil {
		return err
	}
	if ready != nil {
		c.telemetry.LastSuccess(ctx, &ready.Snapshot)
		c.telemetry.LastSave(&ready.Snapshot)
	}
	if last != nil {
		// A copy that was found damaged since is no failure of the save.
		c.telemetry.LastSave(&last.AsSaved().Snapshot, c.unscheduled()...)
	}
	return nil
}

// last returns the newest snapshot in one of the states, or nil. One that is of the future was taken by a wrong clock
// and does not count.
func (c *managed) last(ctx context.Context, states ...snapshot.State) (*snapshot.Record, error) {
	page, err := c.List(ctx, snapshot.Query{
		States: states, Until: time.Now().Add(snapshot.ClockTolerance), PageSize: 1,
	})
	if err != nil || len(page.Records) == 0 {
		return nil, err
	}
	return page.Records[0], nil
}

// refreshRuns reads when the last run was due that has stored a snapshot. Of a scrub, the catalog has only that it
// ended.
func (c *managed) refreshRuns(ctx context.Context) error {
	for _, sch := range c.schedules {
		due, err := c.LastDue(ctx, sch.Name)
		if err != nil {
			return err
		}
		c.telemetry.LastRun(ctx, c.Name(), sch.Name, due)
	}
	return nil
}

// unscheduled returns the backends that no schedule saves to.
func (c *managed) unscheduled() []string {
	return slices.DeleteFunc(slices.Clone(c.BackendNames()), func(b string) bool {
		return slices.ContainsFunc(c.schedules, func(s schedule.Schedule) bool {
			return len(s.Save.Backends) == 0 ||
				slices.ContainsFunc(s.Save.Backends, func(given string) bool { return snapshot.IsBackend(b, given) })
		})
	})
}

// endedStates are those of a snapshot whose save has ended.
var endedStates = []snapshot.State{snapshot.StateReady, snapshot.StatePartial, snapshot.StateFailed}

// deliverPause is how long it takes at most until an upload fallback is looked at again. The pause is short, because
// the snapshot may be the last one, and only this disk has it.
const deliverPause = 15 * time.Second

// deliver delivers what this replica's upload fallback has, as far as an attempt is due. It returns the pause until the
// next time; where nothing is kept, there is none before a save has ended.
func (c *managed) deliver(ctx context.Context) time.Duration {
	next, err := c.UploadFallback(ctx)
	switch {
	case err != nil && ctx.Err() == nil:
		c.log.WarnContext(ctx, "upload fallback not reconciled", "retry_after", deliverPause, "error", err)
	case next.IsZero():
		return backoff.Never
	default:
		return max(time.Second, min(deliverPause, time.Until(next)))
	}
	return deliverPause
}
