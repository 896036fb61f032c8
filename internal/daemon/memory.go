package daemon

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// The soft limit of the heap. One save takes about 70 MiB, most of it parts on their way to S3 and frames that are
// being compressed, and without a limit the collector would let the heap grow beyond 128 MiB.
const (
	memoryOfOne   = 96 << 20
	memoryOfOther = 64 << 20 // for each further one that may be saved at the same time
	// For each cluster: about 100 KiB are in use at rest, and twice as much while it begins and waits for its first save.
	// A limit below what is in use makes the collector take half of the processors and free nothing.
	memoryOfCluster = 384 << 10
)

// collectors say by how many percent the heap grows before memory is collected, from a number of clusters on. With many
// of them, what they need at rest is most of the heap, and little of it is ever garbage. A save of one cluster would be
// slower. docs/performance.md has what this costs.
var collectors = []struct{ clusters, percent int }{{500, 25}, {100, 50}, {0, 100}}

// boundMemory sets how eagerly memory is collected, unless GOGC or GOMEMLIMIT do. With an etcd in the process, nothing
// is set.
func (s *Service) boundMemory() {
	if s.conf.Dev {
		return
	}
	// A reload may have added clusters, and at the start none is open yet.
	n := max(len(s.cfg.Clusters), len(s.clusters))
	if os.Getenv("GOGC") == "" {
		for _, c := range collectors {
			if n >= c.clusters {
				debug.SetGCPercent(c.percent)
				break
			}
		}
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryOfOne + memoryOfOther*int64(min(n, s.atATime)-1) + memoryOfCluster*int64(n))
	}
}

// memoryOfMachine returns the bytes of memory that the process may use: those of the machine, of its control group, or
// of GOMEMLIMIT, whatever is least; 0 when none of them is known.
func memoryOfMachine() int64 {
	least := debug.SetMemoryLimit(-1)
	for _, file := range []string{
		"/proc/meminfo", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // on another system, or of another kind of control groups
		}
		if n := bytesIn(string(b)); n > 0 {
			least = min(least, n)
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

// bytesIn returns the bytes that the first line of such a file tells; 0 for "max".
func bytesIn(text string) int64 {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(strings.TrimPrefix(line, "MemTotal:"))
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	if len(fields) == 2 && fields[1] == "kB" {
		n <<= 10
	}
	return n
}
