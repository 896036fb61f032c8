package daemon

import (
	"context"
	"runtime"

	"github.com/snapshotd/snapshotd/internal/config"
	"github.com/snapshotd/snapshotd/internal/disk"
	"github.com/snapshotd/snapshotd/internal/fairqueue"
)

// The jobs, as metrics name them.
const (
	jobSave    = "save"
	jobRestore = "restore"
	jobDrill   = "drill"
)

// The shares by which the number of saves at a time is chosen: a save takes about two thirds of this memory, it reads,
// compresses and hashes on two CPUs, and spools a database, which is 2 GiB at most unless etcd's quota was raised.
const (
	savesPerCPU   = 2
	memoryOfASave = 96 << 20
	spoolOfASave  = 2 << 30
	mostSaves     = 16
)

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
