//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	pauseTime = time.Minute
	pausePace = 200 * time.Millisecond
)

// TestALeaderThatIsPausedForAMinute stops the only replica for a minute. It follows two clusters, and has lost the lead of
// both when it wakes up. Of one, etcd has kept the history meanwhile: nothing is lost. The other one was compacted: what etcd
// has forgotten is a gap, which is told, and all before and behind it is restored.
func TestALeaderThatIsPausedForAMinute(t *testing.T) {
	t.Parallel()
	f := follow(t, t.TempDir(), "kept", "lost")
	f.pause()
	f.goesOn()
	f.nothingLost("kept")
	f.gap("lost", "compacted")
}

// pause stops the service while the clusters are changed. One of them is compacted at the end. It is given more than fits
// between etcd and the service, so that some of it is nowhere then.
func (f *following) pause() {
	f.t.Helper()
	leases := make([]int, len(f.clusters))
	for i, c := range f.clusters {
		leases[i] = c.leases()
	}
	f.signal(syscall.SIGSTOP)
	pace := time.NewTicker(pausePace)
	defer pace.Stop()
	for end := time.Now().Add(pauseTime); time.Now().Before(end); <-pace.C {
		f.cluster("kept").put("meanwhile", 1)
		f.cluster("lost").put(strings.Repeat("meanwhile ", 10_000), 1)
	}
	for i, c := range f.clusters {
		if n := c.leases(); n >= leases[i] {
			f.t.Errorf("the service was stopped for %s, and has its %d leases of %s still", pauseTime, n, c.name)
		}
	}
	f.cluster("lost").compact()
	f.signal(syscall.SIGCONT)
}

func (f *following) signal(s syscall.Signal) {
	f.t.Helper()
	if err := f.serve.cmd.Process.Signal(s); err != nil {
		f.t.Fatal(err)
	}
}
