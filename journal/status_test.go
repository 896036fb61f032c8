package journal_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/journal"
)

// The metrics of all clusters are asked for at once, and their status: they do not wait for the disk of one.
func TestTheStatusIsThereWhileTheDiskHangs(t *testing.T) {
	dir := t.TempDir()
	facts := filepath.Join(dir, "0000000000000001.json")
	must(t, syscall.Mkfifo(facts, 0o600))
	j := journal.New(journal.Config{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { j.Run(ctx) })
	hangs, err := os.OpenFile(facts, os.O_WRONLY, 0) // once it is read
	must(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if s := j.Status(); s.Bytes != 0 || s.Waiting != 0 || s.Revision != 0 {
			t.Errorf("it is %+v", s)
		}
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the disk is waited for")
	}
	must(t, hangs.Close())
	cancel()
	run.Wait()
}
