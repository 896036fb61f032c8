package progress_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snapshotd/snapshotd/internal/progress"
)

// reports are those of a tracker.
type reports struct {
	begin time.Time
	mu    sync.Mutex
	lines []string
}

func (r *reports) note(name string, done, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf("%v %s %d/%d", time.Since(r.begin), name, done, total))
}

func (r *reports) take() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

func (r *reports) want(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := r.take(); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func tracked(t *testing.T, test func(*testing.T, *progress.Tracker, *reports)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &reports{begin: time.Now()}
		tr := progress.New(200*time.Millisecond, time.Second, r.note)
		stop := tr.Start(t.Context())
		defer stop()
		test(t, tr, r)
	})
}

func TestMovingTransfersAreReportedOftenAndIdleOnesEachSecond(t *testing.T) {
	tracked(t, func(t *testing.T, tr *progress.Tracker, r *reports) {
		etcd := tr.Transfer("etcd", 100)
		tr.Transfer("s3", 0)
		etcd.Add(10)
		etcd.Add(10)
		r.want(t, "before the first time")
		time.Sleep(200 * time.Millisecond)
		r.want(t, "first", "200ms etcd 20/100", "200ms s3 0/0")
		etcd.Add(5)
		time.Sleep(200 * time.Millisecond)
		r.want(t, "one moves", "400ms etcd 25/100")
		time.Sleep(500 * time.Millisecond)
		r.want(t, "none moves")
		time.Sleep(2100 * time.Millisecond)
		r.want(t, "by time", "1s etcd 25/100", "1s s3 0/0", "2s etcd 25/100", "2s s3 0/0", "3s etcd 25/100", "3s s3 0/0")
	})
}

func TestATransferNeverGoesBackAndIsSilentOnceItIsOver(t *testing.T) {
	tracked(t, func(t *testing.T, tr *progress.Tracker, r *reports) {
		s3 := tr.Transfer("s3", 0)
		s3.Set(8)
		s3.Set(5) // of a part that was acknowledged earlier, and is told later
		s3.SetTotal(16)
		tr.Report()
		r.want(t, "at once", "0s s3 8/16")
		time.Sleep(200 * time.Millisecond)
		s3.Set(8)
		time.Sleep(200 * time.Millisecond)
		r.want(t, "the same again")
		s3.Set(16)
		s3.End()
		s3.Add(1)
		tr.Report()
		time.Sleep(2 * time.Second)
		r.want(t, "over")
	})
}
