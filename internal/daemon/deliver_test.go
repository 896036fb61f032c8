package daemon

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	catalogmemory "github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/backoff"
	"github.com/snapshotd/snapshotd/internal/fairqueue"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// bucket is a backend that takes no snapshot while it is down.
type bucket struct {
	*memory.Backend
	down atomic.Bool
}

func (p *bucket) Put(ctx context.Context, key string, r io.Reader, opts repository.PutOptions) error {
	if p.down.Load() && strings.HasPrefix(key, "default/") {
		return snapshot.ReasonBackendUnavailable.New("put %s", key).Because(errors.New("it is down"))
	}
	return p.Backend.Put(ctx, key, r, opts)
}

// delivery is a cluster in memory whose backend is down, and what this replica keeps of it.
type delivery struct {
	*fleet
	kept    *counted
	backend *bucket
	records *catalogmemory.Catalog
}

func newDelivery(t *testing.T) *delivery {
	t.Helper()
	d := &delivery{
		fleet: &fleet{read: make(chan string, 1), send: make(chan struct{}, 1)},
		kept:  &counted{Backend: memory.New("kept", snapshot.BackendLocal)}, records: catalogmemory.New(time.Now),
		backend: &bucket{Backend: memory.New("memory", snapshot.BackendS3)},
	}
	d.send <- struct{}{}
	d.backend.down.Store(true)
	return d
}

// open returns the cluster as a configuration has it, with the loop that delivers, and stop ends that.
func (d *delivery) open(t *testing.T) (m *managed, stop func()) {
	t.Helper()
	c, err := cluster.New(cluster.Config{
		Name: "default", Node: "node-1", Prefix: "default/", SpoolDir: t.TempDir(), Source: source{d.fleet, t, "default"},
		Records: d.records, Saves: d.records, History: d.records, Stores: d.records,
		Backends: []repository.Backend{d.backend}, Fallback: d.kept,
	})
	if err != nil {
		t.Fatal(err)
	}
	m = &managed{Cluster: c, queues: queues{saves: fairqueue.New(1, nil)}, watched: d, log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	wake := backoff.Repeat(ctx, &work, 0, m.deliver)
	m.wakeDelivery.Store(&wake)
	return m, func() {
		cancel()
		work.Wait()
	}
}

// TestAnUploadFallbackIsDeliveredThoughNobodyLooksForOne: while nothing is kept, nothing is read; a save that has left
// something is enough.
func TestAnUploadFallbackIsDeliveredThoughNobodyLooksForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDelivery(t)
		m, stop := d.open(t)
		defer stop()

		time.Sleep(time.Hour)
		if n := d.kept.listed.Load(); n != 1 {
			t.Errorf("in an hour in which nothing was kept, it was looked for %d times, want once, at the start", n)
		}
		res, err := m.Save(t.Context(), cluster.SaveRequest{})
		if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable {
			t.Fatalf("the save ends with %v", err)
		}
		d.backend.down.Store(false)
		time.Sleep(5 * time.Minute)
		rec, err := m.Get(t.Context(), res.Snapshot.Name)
		if err != nil || rec.State() != snapshot.StateReady {
			t.Fatalf("five minutes later, the snapshot is %v, %v", rec.State(), err)
		}
		n := d.kept.listed.Load()
		time.Sleep(time.Hour)
		if more := d.kept.listed.Load() - n; more > 0 {
			t.Errorf("an hour after it was delivered, it was looked for %d times more", more)
		}
	})
}

// TestAnUploadFallbackOfASaveThatWaitedAcrossAReloadIsDelivered: the loops of the cluster that makes the save have ended
// before it begins, and nothing else is saved.
func TestAnUploadFallbackOfASaveThatWaitedAcrossAReloadIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDelivery(t)
		before, stopBefore := d.open(t)
		after, stopAfter := d.open(t)
		defer stopAfter()
		other := before.queues.saves.Join("another cluster")
		<-other.Turn()
		saved := make(chan *snapshot.Snapshot, 1)
		go func() {
			res, err := before.Save(t.Context(), cluster.SaveRequest{})
			if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable {
				t.Errorf("the save ends with %v", err)
			}
			saved <- res.Snapshot
		}()
		synctest.Wait()
		before.successor.Store(after)
		stopBefore()
		other.End()
		s := <-saved
		d.backend.down.Store(false)
		time.Sleep(5 * time.Minute)
		if rec, err := after.Get(t.Context(), s.Name); err != nil || rec.State() != snapshot.StateReady {
			t.Fatalf("five minutes later, the snapshot is %v, %v", rec.State(), err)
		}
	})
}

// counted counts listings.
type counted struct {
	*memory.Backend
	listed atomic.Int64
}

func (c *counted) List(ctx context.Context, prefix string) iter.Seq2[repository.Object, error] {
	c.listed.Add(1)
	return c.Backend.List(ctx, prefix)
}
