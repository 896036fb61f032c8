//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// memoryBound is how much anonymous memory a save may take, whatever the database's size.
const memoryBound = 128 << 20

// TestMemoryDoesNotGrowWithTheDatabase is acceptance 10: the service's anonymous memory at rest and at its peak while
// it saves to both backends. Pages that are mapped from the spool are not anonymous.
func TestMemoryDoesNotGrowWithTheDatabase(t *testing.T) {
	size := envInt(t, "SNAPSHOTD_E2E_BYTES", 256<<20)
	w := newWorld(t, size)
	s := start(t, w.options(), w.args(t, "")...)
	rest := s.rssAnon()
	stop := s.samplePeak()
	for range 2 {
		s.must("save")
	}
	peak := stop()
	t.Logf("database %d MiB: RssAnon %.1f MiB at rest, %.1f MiB at its peak in two saves", size>>20, mib(rest), mib(peak))
	if peak == 0 || peak > memoryBound {
		t.Errorf("the peak of RssAnon was %.1f MiB; %d MiB are allowed", mib(peak), memoryBound>>20)
	}
}

// samplePeak samples the service's anonymous memory until the returned function is called, which returns the peak.
func (s *service) samplePeak() (stop func() int64) {
	return samplePeak(s.cmd.Process.Pid, 20*time.Millisecond)
}

// samplePeak samples the anonymous memory of a process until the returned function is called, which returns the peak.
func samplePeak(pid int, every time.Duration) (stop func() int64) {
	var peak int64
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		sample := time.NewTicker(every)
		defer sample.Stop()
		for {
			peak = max(peak, rssAnon(pid))
			select {
			case <-done:
				return
			case <-sample.C:
			}
		}
	})
	return func() int64 {
		close(done)
		wg.Wait()
		return peak
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func (s *service) rssAnon() int64 { return rssAnon(s.cmd.Process.Pid) }

// rssAnon returns the anonymous memory of a process in bytes; 0 when it has ended.
func rssAnon(pid int) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if rest, ok := strings.CutPrefix(sc.Text(), "RssAnon:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}
