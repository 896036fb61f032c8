package daemon

import (
	"os"
	"runtime/debug"
)

// The soft limit of the heap. One save takes about 70 MiB, most of it parts on their way to S3 and frames that are
// being compressed, and without a limit the collector would let the heap grow beyond 128 MiB.
const (
	memoryOfOne   = 96 << 20
	memoryOfOther = 64 << 20 // for each further cluster: all may be saved at the same time
)

// boundMemory sets the collector's limit, unless GOMEMLIMIT does. With an etcd in the process there is none.
func (s *Service) boundMemory() {
	if os.Getenv("GOMEMLIMIT") != "" || s.conf.Dev {
		return
	}
	debug.SetMemoryLimit(memoryOfOne + memoryOfOther*int64(max(len(s.cfg.Clusters), len(s.clusters))-1))
}
