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

// TestAnUploadFallbackIsDeliveredThoughNobodyLooksForOne: while nothing is kept, nothing is read; a save that has left
// something is enough.
func TestAnUploadFallbackIsDeliveredThoughNobodyLooksForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{read: make(chan string, 1), send: make(chan struct{}, 1)}
		f.send <- struct{}{}
		kept := &counted{Backend: memory.New("kept", snapshot.BackendLocal)}
		backend := &bucket{Backend: memory.New("memory", snapshot.BackendS3)}
		backend.down.Store(true)
		records := catalogmemory.New(time.Now)
		c, err := cluster.New(cluster.Config{
			Name: "default", Node: "node-1", Prefix: "default/", SpoolDir: t.TempDir(), Source: source{f, t, "default"},
			Records: records, Saves: records, History: records, Stores: records,
			Backends: []repository.Backend{backend}, Fallback: kept,
		})
		if err != nil {
			t.Fatal(err)
		}
		m := &managed{Cluster: c, queues: queues{saves: fairqueue.New(1, nil)}, watched: f, log: slog.New(slog.DiscardHandler)}
		ctx, stop := context.WithCancel(t.Context())
		var work sync.WaitGroup
		wake := backoff.Repeat(ctx, &work, 0, m.deliver)
		m.wakeDelivery.Store(&wake)
		defer work.Wait()
		defer stop()

		time.Sleep(time.Hour)
		if n := kept.listed.Load(); n != 1 {
			t.Errorf("in an hour in which nothing was kept, it was looked for %d times, want once, at the start", n)
		}
		res, err := m.Save(t.Context(), cluster.SaveRequest{})
		if snapshot.ReasonOf(err) != snapshot.ReasonBackendUnavailable {
			t.Fatalf("the save ends with %v", err)
		}
		backend.down.Store(false)
		time.Sleep(5 * time.Minute)
		rec, err := c.Get(t.Context(), res.Snapshot.Name)
		if err != nil || rec.State() != snapshot.StateReady {
			t.Fatalf("five minutes later, the snapshot is %v, %v", rec.State(), err)
		}
		n := kept.listed.Load()
		time.Sleep(time.Hour)
		if more := kept.listed.Load() - n; more > 0 {
			t.Errorf("an hour after it was delivered, it was looked for %d times more", more)
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
