package daemon

import (
	"context"
	"log/slog"
	"sync/atomic"
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

// A cluster is judged at the start, on the interval, and once soon after changes that come together. What changes no
// verdict costs nothing.
func TestAClusterIsJudgedAfterEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := catalogmemory.New(time.Now)
		m := &managed{
			queues: queues{starts: fairqueue.New(1, nil)}, interval: func() time.Duration { return time.Hour }, log: slog.New(slog.DiscardHandler),
		}
		var judged atomic.Int64
		m.judge = func(context.Context) { judged.Add(1) }
		var err error
		m.Cluster, err = cluster.New(cluster.Config{
			Name: "prod", Node: "node-1", Prefix: "prod/", SpoolDir: t.TempDir(), Source: source{&fleet{}, t, "prod"},
			Records: records, Saves: records, History: records, Stores: records,
			Backends: []repository.Backend{memory.New("memory", snapshot.BackendS3)},
		})
		if err != nil {
			t.Fatal(err)
		}
		happens := func(types ...snapshot.EventType) {
			for _, kind := range types {
				m.changes.Observe(t.Context(), snapshot.Event{Type: kind})
			}
		}
		happens(snapshot.EventFinished) // before the loops
		ctx, stop := context.WithCancel(t.Context())
		defer func() { stop(); m.loops.Wait() }()
		m.begin(ctx, func(context.Context) {})
		for _, tc := range []struct {
			what  string
			types []snapshot.EventType
			after time.Duration
			want  int64
		}{
			{"at the start", nil, 0, 1},
			{"a save has ended, and was verified", []snapshot.EventType{snapshot.EventFinished, snapshot.EventVerified}, 3 * time.Second, 2},
			{"a save is under way", []snapshot.EventType{snapshot.EventStarted, snapshot.EventProgress, snapshot.EventWritten}, time.Minute, 2},
			{"after a reconcile", []snapshot.EventType{snapshot.EventReconciled}, 3 * time.Second, 3},
			{"copies were repaired and deleted", []snapshot.EventType{snapshot.EventRepaired, snapshot.EventDeleted}, 3 * time.Second, 3},
			{"half a minute after the last one", nil, 30 * time.Second, 4},
			{"an hour later", nil, time.Hour, 5},
		} {
			happens(tc.types...)
			time.Sleep(tc.after) // of virtual time
			synctest.Wait()
			if got := judged.Load(); got != tc.want {
				t.Errorf("%s: it was judged %d times, want %d", tc.what, got, tc.want)
			}
		}
	})
}
