package daemon

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/internal/fairqueue"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/snapshot"
)

// The jobs, as metrics name them.
const (
	jobSave    = "save"
	jobRestore = "restore"
	jobDrill   = "drill"
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

// queues are where all clusters wait for their turn: to begin their loops, save, restore a database, and drill.
type queues struct{ starts, saves, restores, drills *fairqueue.Queue }

// openJobs makes the queues.
func (s *Service) openJobs(ctx context.Context) {
	counted := func(job string) *fairqueue.Queue {
		return fairqueue.New(0, func(running, waiting int) { s.telemetry.Jobs(ctx, job, running, waiting) })
	}
	s.queues = queues{
		starts:   fairqueue.New(startsPerCPU*runtime.GOMAXPROCS(0), nil),
		saves:    counted(jobSave),
		restores: counted(jobRestore),
		drills:   counted(jobDrill),
	}
	// What there is now counts, also after a reload: boundMemory sets a limit of its own, and saves fill the spool.
	s.memory = memoryOfMachine()
	if free, err := disk.Free(s.cfg.DataDir); err == nil {
		s.free = free
	}
	s.setPlaces(ctx, s.cfg)
}

// setPlaces lets as many of them run at a time as a configuration says.
func (s *Service) setPlaces(ctx context.Context, cfg *config.Config) {
	saves, restores, drills := cfg.MaxConcurrentSaves, cfg.MaxConcurrentRestores, cfg.MaxConcurrentDrills
	if saves == 0 {
		saves = savesAtATime(runtime.GOMAXPROCS(0), s.memory, s.free)
	}
	if restores == 0 {
		restores = max(saves/2, 1) // a check may need room for two databases
	}
	s.log.InfoContext(ctx, "jobs at a time, of all clusters together",
		"saves", saves, "restores", restores, "drills", drills)
	s.queues.saves.SetPlaces(saves)
	s.queues.restores.SetPlaces(restores)
	s.queues.drills.SetPlaces(drills)
	s.atATime = saves
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

// Save saves the cluster when it is its turn: of all clusters, so many are saved at a time. The saves of schedules wait
// apart from those of callers, so that callers cannot keep them waiting.
func (c *managed) Save(ctx context.Context, req cluster.SaveRequest) (cluster.SaveResult, error) {
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

// waiting is the save of a caller that waits for its turn. A repeated request waits beside it, and gets its outcome.
// The zero value is ready for use.
type waiting struct {
	mu        sync.Mutex
	requestID string
	calls     int
}

// enter reports whether a request may wait; then leave ends its waiting.
func (w *waiting) enter(requestID string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls > 0 && (requestID == "" || requestID != w.requestID) {
		return false
	}
	w.requestID = requestID
	w.calls++
	return true
}

func (w *waiting) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls--
}

// inTurn is a driller that waits for its turn: of all clusters, so many drills run at a time.
type inTurn struct {
	repository.Driller
	cluster string
	queue   *fairqueue.Queue
}

// Drill implements [repository.Driller].
func (d inTurn) Drill(ctx context.Context, file string, revision int64) (repository.Drilled, error) {
	release, err := takeTurn(ctx, d.queue, d.cluster, "drill")
	if err != nil {
		return repository.Drilled{}, err
	}
	defer release()
	return d.Driller.Drill(ctx, file, revision)
}

// takeTurn waits for a place in a queue. The caller calls release.
func takeTurn(ctx context.Context, q *fairqueue.Queue, owner, what string) (release func(), err error) {
	j := q.Join(owner)
	select {
	case <-j.Turn():
		return j.End, nil
	case <-ctx.Done():
		j.End()
		return nil, snapshot.Cancelled(ctx, "%s: it was waiting for its turn", what)
	}
}

// adoptInTurn makes a snapshot of another program, which is read whole into the spool, wait for a place among what is
// restored. At its first start, a process of many clusters may find such snapshots of all of them.
func adoptInTurn(q *fairqueue.Queue, cluster string) func(context.Context, string) (func(), error) {
	return func(ctx context.Context, what string) (func(), error) {
		return takeTurn(ctx, q, cluster+"/adopted", what) // the name of a cluster has no '/'
	}
}

// Verify verifies a snapshot. Where that restores its database to a file, it waits for its turn: of all clusters, so
// many databases are on the disk at a time.
func (c *managed) Verify(ctx context.Context, req cluster.VerifyRequest) (*snapshot.Record, error) {
	if req.Level > snapshot.LevelChecksum {
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
