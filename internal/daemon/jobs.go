package daemon

import (
	"context"
	"runtime"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/internal/jobs"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The jobs, as metrics name them.
const (
	jobSave  = "save"
	jobDrill = "drill"
)

// waitingInterval is how often watchers are told that a save waits for its turn.
const waitingInterval = time.Second

// The shares by which the number of saves at a time is chosen: a save takes about two thirds of this memory, it reads,
// compresses and hashes on two CPUs, and spools a database, which is 2 GiB at most unless etcd's quota was raised.
const (
	savesPerCPU   = 2
	memoryOfASave = 96 << 20
	spoolOfASave  = 2 << 30
	mostSaves     = 16
)

// openJobs makes the queues of what is heavy, for all clusters together.
func (s *Service) openJobs(ctx context.Context) {
	saves, drills := s.cfg.MaxConcurrentSaves, s.cfg.MaxConcurrentDrills
	if saves == 0 {
		free, err := disk.Free(s.cfg.DataDir)
		if err != nil {
			free = 0 // it is not known
		}
		saves = savesAtATime(runtime.GOMAXPROCS(0), memoryOfMachine(), free)
	}
	s.log.InfoContext(ctx, "jobs at a time, of all clusters together", "saves", saves, "drills", drills)
	s.saveTurns = jobs.New(saves, func(running, waiting int) { s.telemetry.Jobs(ctx, jobSave, running, waiting) })
	s.drillTurns = jobs.New(drills, func(running, waiting int) { s.telemetry.Jobs(ctx, jobDrill, running, waiting) })
	s.atATime = saves
	s.telemetry.Jobs(ctx, jobSave, 0, 0)
	s.telemetry.Jobs(ctx, jobDrill, 0, 0)
}

// savesAtATime returns how many saves the machine can run side by side. Bytes of memory, and free bytes of the spool's
// disk, count when they are known.
func savesAtATime(cpus int, memory, free int64) int {
	n := min(savesPerCPU*cpus, mostSaves)
	if memory > 0 {
		n = min(n, int(memory/2/memoryOfASave))
	}
	if free > 0 {
		n = min(n, int(free/spoolOfASave))
	}
	return max(n, 1)
}

// Save saves the cluster when it is its turn: of all clusters, so many are saved at a time.
func (c *managed) Save(ctx context.Context, req cluster.SaveRequest) (cluster.SaveResult, error) {
	j := c.turns.Join(c.Name())
	defer j.End()
	if err := c.await(ctx, j, req.RequestID); err != nil {
		return cluster.SaveResult{}, err
	}
	return c.Cluster.Save(ctx, req)
}

// await waits for the turn of a save, and tells those that watch it.
func (c *managed) await(ctx context.Context, j *jobs.Job, requestID string) error {
	select {
	case <-j.Turn():
		return nil
	default:
	}
	start := time.Now()
	c.log.InfoContext(ctx, "save waits for its turn")
	tick := time.NewTicker(waitingInterval)
	defer tick.Stop()
	for {
		c.watched.Observe(ctx, snapshot.Event{
			Type: snapshot.EventProgress, Time: time.Now().UTC(), Cluster: c.Name(), RequestID: requestID,
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

// inTurn is a driller that waits for its turn: of all clusters, so many drills run at a time.
type inTurn struct {
	repository.Driller
	cluster string
	queue   *jobs.Queue
}

// Drill implements [repository.Driller].
func (d inTurn) Drill(ctx context.Context, file string, revision int64) (repository.Drilled, error) {
	j := d.queue.Join(d.cluster)
	defer j.End()
	select {
	case <-j.Turn():
	case <-ctx.Done():
		return repository.Drilled{}, snapshot.Cancelled(ctx, "drill: it was waiting for its turn")
	}
	return d.Driller.Drill(ctx, file, revision)
}
