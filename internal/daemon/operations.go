package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/fairqueue"
	"github.com/snapshotd/snapshotd/snapshot"
)

// waitingInterval is how often watchers are told that a save waits for its turn.
const waitingInterval = time.Second

// Save saves the cluster when it is its turn: of all clusters, so many are saved at a time. The saves of schedules wait
// apart from those of callers, so that callers cannot keep them waiting.
func (c *managed) Save(ctx context.Context, req cluster.SaveRequest) (cluster.SaveResult, error) {
	// A request that can never be saved is refused at once, and not after it has waited.
	if err := c.CheckSave(req); err != nil {
		return cluster.SaveResult{}, err
	}
	owner := c.Name()
	if req.Trigger == snapshot.TriggerScheduled {
		owner += "/scheduled" // the name of a cluster has no '/'
	}
	j := c.queues.saves.Join(owner)
	defer j.End()
	if err := c.await(ctx, j, req); err != nil {
		return cluster.SaveResult{}, err
	}
	defer c.lookForFallback() // it may have left one, or have made one useless
	return c.Cluster.Save(ctx, req)
}

// lookForFallback makes an upload fallback be looked for. A reload may have replaced the cluster while a save waited
// for its turn: then the loops of its successor deliver what the save has left.
func (c *managed) lookForFallback() {
	for ; c != nil; c = c.successor.Load() {
		if wake := c.wakeDelivery.Load(); wake != nil {
			(*wake)()
		}
	}
}

// await waits for the turn of a save, and tells those that watch it. One save of a caller waits; another one is
// refused, as while a save runs.
func (c *managed) await(ctx context.Context, j *fairqueue.Job, req cluster.SaveRequest) error {
	select {
	case <-j.Turn():
		return nil
	default:
	}
	if req.Trigger != snapshot.TriggerScheduled {
		if !c.waiting.enter(req.RequestID) {
			c.watched.Observe(ctx, snapshot.Event{Type: snapshot.EventSaveRejected, Time: time.Now().UTC(), Cluster: c.Name()})
			return snapshot.SaveInProgress(c.Name(), "or is about to be: another save waits for its turn on this replica")
		}
		defer c.waiting.leave()
	}
	start := time.Now()
	c.log.InfoContext(ctx, "save waits for its turn")
	tick := time.NewTicker(waitingInterval)
	defer tick.Stop()
	for {
		c.watched.Observe(ctx, snapshot.Event{
			Type: snapshot.EventProgress, Time: time.Now().UTC(), Cluster: c.Name(), RequestID: req.RequestID,
			Phase: snapshot.PhaseWaiting,
		})
		select {
		case <-j.Turn():
			c.log.InfoContext(ctx, "save has its turn", "waited", time.Since(start))
			return nil
		case <-tick.C:
		case <-ctx.Done():
			return snapshot.Cancelled(ctx, "save cluster %q: it was waiting for its turn", c.Name())
		}
	}
}

// Verify verifies a snapshot. Where that restores its database to a file, it waits for its turn: of all clusters, so
// many databases are on the disk at a time.
func (c *managed) Verify(ctx context.Context, req cluster.VerifyRequest) (*snapshot.Record, error) {
	if req.Level > snapshot.LevelChecksum {
		// So is the name of a snapshot that is not there.
		if _, err := c.Get(ctx, req.Name); err != nil {
			return nil, err
		}
		release, err := c.takeRestore(ctx, "verify "+req.Name)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	return c.Cluster.Verify(ctx, req)
}

// scrubInTurn makes the drill of a scrub wait for its turn in the same way. The checksums that it compares need no
// room, and may take long.
func (c *managed) scrubInTurn(scrub scrubbing) scrubbing {
	return func(ctx context.Context, s cluster.Scrub) error {
		if !s.Drill {
			return scrub(ctx, s)
		}
		release, err := c.takeRestore(ctx, "scrub")
		if err != nil {
			return err
		}
		err = scrub(ctx, cluster.Scrub{Drill: true})
		release()
		if s.Share == 0 || ctx.Err() != nil {
			return err
		}
		return errors.Join(err, scrub(ctx, cluster.Scrub{Share: s.Share}))
	}
}

// takeRestore waits until nothing else of the cluster is restored, and then for its turn among the clusters: those that
// wait for each other take no places.
func (c *managed) takeRestore(ctx context.Context, what string) (release func(), err error) {
	own, err := takeTurn(ctx, c.restoring, c.Name(), what)
	if err != nil {
		return nil, err
	}
	among, err := takeTurn(ctx, c.queues.restores, c.Name(), what)
	if err != nil {
		own()
		return nil, err
	}
	return func() {
		among()
		own()
	}, nil
}
