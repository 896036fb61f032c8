//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestADiskThatIsFullUnderTheJournal leaves no space on the disk of the journals. The service says so, and takes snapshots. It
// is killed and started again on that disk. With space again, what etcd has kept is journaled without a gap, and what it
// has forgotten is one; nothing is lost that was durable before.
func TestADiskThatIsFullUnderTheJournal(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	fill := smallDisk(t, filepath.Join(data, "journal"))
	f := follow(t, data, "kept", "lost")
	free := fill()
	for i := range 2 {
		f.full()
		for _, c := range f.clusters {
			c.put("meanwhile", 20)
			c.safe = max(c.safe, c.durable)
		}
		f.serve.must("save", "--cluster", "kept")
		f.serve.get("/readyz")
		f.serve.kill()
		if i == 1 { // while nobody has the revisions in memory
			f.cluster("lost").compact()
		}
		f.serve = start(t, f.options, "--config", f.file)
	}
	free()
	f.goesOn()
	f.nothingLost("kept")
	f.gap("lost", "compacted")
}

// full waits until the journals do not go on, and checks that the service says why.
func (f *following) full() {
	f.t.Helper()
	since := time.Now()
	for _, c := range f.clusters {
		eventually(f.t, "the journal of "+c.name+" does not go on", func() bool {
			c.put("more than fits", 1)
			m := f.serve.scrape()
			c.durable = int64(m[fmt.Sprintf("snapshotd_journal_revision{cluster=%q}", c.name)])
			behind, leads := m[fmt.Sprintf(`snapshotd_journal_rpo_seconds{cluster=%q,stage="local"}`, c.name)]
			return leads && behind > 3 && time.Since(since) > 3*time.Second && strings.Contains(f.serve.log.String(), syscall.ENOSPC.Error())
		})
	}
}

// smallDisk mounts a small file system in memory, and returns a function that takes all space on it, also what becomes free,
// until the function is called that it returns. The test is skipped where nothing can be mounted.
func smallDisk(t *testing.T, dir string) (fill func() (free func())) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4m,mode=700"); err != nil {
		t.Skipf("a file system that can be filled needs the right to mount one: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return func() func() {
		filler, err := os.Create(filepath.Join(dir, "filler"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var filling sync.WaitGroup
		filling.Go(func() {
			for block := make([]byte, 4096); ctx.Err() == nil; {
				if _, err := filler.Write(block); err != nil {
					time.Sleep(time.Millisecond) // all is taken
				}
			}
		})
		return func() {
			stop()
			filling.Wait()
			if err := errors.Join(filler.Close(), os.Remove(filler.Name())); err != nil {
				t.Error(err)
			}
		}
	}
}
