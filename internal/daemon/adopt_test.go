package daemon

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/testenv"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// foreign is a snapshot that K3s has put beside those of the service.
const foreign = "etcd-snapshot-server-1-1700000000"

// holding is a backend whose reads of that snapshot wait for the test.
type holding struct {
	*memory.Backend
	reads drills
}

// Get implements [repository.Backend].
func (b holding) Get(ctx context.Context, key string, r repository.Range) (io.ReadCloser, error) {
	if strings.HasSuffix(key, foreign) {
		b.reads.running <- struct{}{}
		<-b.reads.end
	}
	return b.Backend.Get(ctx, key, r)
}

// TestSnapshotsOfOthersAreAdoptedInTurn: of many clusters that find one at the same time, two read theirs at a time.
func TestSnapshotsOfOthersAreAdoptedInTurn(t *testing.T) {
	const clusters, places = 12, 2
	f := newFleet(t, clusters, places)
	content := testenv.Stored(t, 0).Data
	reconcile := func(ctx context.Context, c *managed) (cluster.BackendReport, error) {
		reports, err := c.Reconcile(ctx, cluster.ReconcileRequest{})
		return append(reports, cluster.BackendReport{})[0], err
	}
	var all sync.WaitGroup
	for i, c := range f.clusters {
		key := c.Name() + "/" + foreign
		f.backends[i].SetClock(func() time.Time { return time.Now().Add(-time.Hour) }) // then the file is whole
		f.backends[i].Set(key, content)
		all.Go(func() {
			if report, err := reconcile(t.Context(), c); err != nil || report.Err != nil || report.Added != 1 {
				t.Errorf("%s: %+v, error %v", c.Name(), report, err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	for over := false; !over; {
		select {
		case <-f.adopted.running:
			if n := len(f.adopted.running) + 1; n > places {
				t.Errorf("%d snapshots are read at a time", n)
			}
			f.adopted.end <- struct{}{}
		case <-done:
			over = true
		case <-time.After(waitTimeout):
			t.Fatal("no other snapshot is read")
		}
	}

	another := f.clusters[0].Name() + "/second-" + foreign
	f.backends[0].Set(another, content)
	for range places {
		defer f.clusters[0].queues.restores.Join("busy").End()
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		report, err := reconcile(ctx, f.clusters[0])
		if err == nil {
			err = report.Err
		}
		ended <- err
	}()
	cancel()
	if err := <-ended; snapshot.ReasonOf(err) != snapshot.ReasonCancelled {
		t.Errorf("an adoption that was cancelled while it waited ends with %v", err)
	}
}
