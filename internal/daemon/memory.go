package daemon

import (
	"os"
	"runtime/debug"
)

// What the heap is bounded to, softly: one save lives in about 70 MiB, most of it parts on their way to S3 and frames
// being compressed, and a heap that may double before it is collected would not stay below 128 MiB.
const (
	memoryOfOne   = 96 << 20
	memoryOfOther = 64 << 20 // for each further cluster: all may be saved at the same time
)

// boundMemory sets the collector's limit, unless GOMEMLIMIT does. With an etcd in the process it is none of our business.
func (s *Service) boundMemory() {
	if os.Getenv("GOMEMLIMIT") != "" || s.conf.Dev {
		return
	}
	debug.SetMemoryLimit(memoryOfOne + memoryOfOther*int64(len(s.cfg.Clusters)-1))
}
