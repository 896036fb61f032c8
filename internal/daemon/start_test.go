package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	catalogmemory "github.com/snapshotd/snapshotd/catalog/memory"
	"github.com/snapshotd/snapshotd/cluster"
	"github.com/snapshotd/snapshotd/internal/fairqueue"
	"github.com/snapshotd/snapshotd/repository"
	"github.com/snapshotd/snapshotd/repository/memory"
	"github.com/snapshotd/snapshotd/snapshot"
)

// slow is a catalog whose first page takes some time.
type slow struct {
	*catalogmemory.Catalog
	takes time.Duration
}

// List implements [cluster.History].
func (s slow) List(ctx context.Context, q snapshot.Query) (snapshot.Page, error) {
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return snapshot.Page{}, context.Cause(ctx)
	}
	return s.Catalog.List(ctx, q)
}

// TestClustersBeginInTurn: two at a time. A catalog that answers late keeps the next ones for three seconds, and one
// that was removed meanwhile does not begin.
func TestClustersBeginInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		starts := fairqueue.New(2, nil)
		begin := time.Now()
		var mu sync.Mutex
		at := map[string]time.Duration{}
		var all sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		removed, remove := context.WithCancel(ctx)
		var clusters []*managed
		for i, takes := range []time.Duration{0, time.Hour, time.Hour, 100 * time.Millisecond, 0, 0} {
			name := fmt.Sprintf("cluster-%d", i)
			records := catalogmemory.New(time.Now)
			c, err := cluster.New(cluster.Config{
				Name: name, Node: "node-1", Prefix: name + "/", SpoolDir: t.TempDir(), Source: source{f, t, name},
				Records: records, Saves: records, History: slow{records, takes}, Stores: records,
				Backends: []repository.Backend{memory.New("memory", snapshot.BackendS3)},
			})
			if err != nil {
				t.Fatal(err)
			}
			m := &managed{
				Cluster: c, queues: queues{starts: starts}, interval: func() time.Duration { return time.Hour }, log: slog.New(slog.DiscardHandler),
				judge: func(context.Context) {},
			}
			clusters = append(clusters, m)
			ctx := ctx
			if i == 4 {
				ctx = removed
			}
			all.Go(func() {
				m.begin(ctx, func(context.Context) {
					mu.Lock()
					defer mu.Unlock()
					at[name] = time.Since(begin)
				})
			})
			synctest.Wait() // they join in this order
		}
		remove()
		time.Sleep(time.Minute)
		mu.Lock()
		want := map[string]time.Duration{
			"cluster-0": 0, "cluster-1": 0, "cluster-2": 0, "cluster-3": 3 * time.Second, "cluster-5": 3 * time.Second,
		}
		if fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("clusters have begun after %v, want %v", at, want)
		}
		mu.Unlock()
		stop()
		all.Wait()
		for _, c := range clusters {
			c.loops.Wait()
		}
	})
}
